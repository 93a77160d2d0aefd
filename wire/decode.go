package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Open, embedded in a params type, makes Decode ignore unknown keys.
type Open struct{}

// Patch is an optional member in which null means something else than absence.
// Its json tag wants omitzero.
type Patch[T any] struct {
	Set   bool // the member is there
	Value *T   // nil = null
}

// MarshalJSON encodes the value, or null.
func (p Patch[T]) MarshalJSON() ([]byte, error) { return Marshal(p.Value) }

func (Patch[T]) isPatch() {}

// FieldError is a value that is JSON, but not the JSON that was asked for.
type FieldError struct {
	Path string // JSON pointer (RFC 6901); "" = the document itself
	Msg  string
	More []FieldError // what else is wrong, of which some may be left out
}

// Error lists all problems in the wording of JSON Schema validators, which the clients' tests know.
func (e *FieldError) Error() string {
	var b strings.Builder
	b.WriteString(e.First())
	for i := range e.More {
		b.WriteString("; " + e.More[i].First())
	}
	return b.String()
}

// First describes the first problem alone, as protocol 4 does.
func (e *FieldError) First() string {
	switch {
	case e.Path != "":
		return "at " + e.Path + ": " + e.Msg
	case strings.HasPrefix(e.Msg, unexpectedProperty):
		return "at root: " + e.Msg
	}
	return e.Msg
}

const unexpectedProperty = "unexpected property "

func requiredMsg(name string) string { return "must have required property '" + name + "'" }

// joinFields returns the problems as one error, nil for none.
func joinFields(problems []FieldError) error {
	if len(problems) == 0 {
		return nil
	}
	first := problems[0]
	first.More = problems[1:]
	return &first
}

// Decode reads one JSON value into what v points to. Beyond what scanner refuses, it
// refuses keys that the type lacks or spells in other case, and null where a value is expected.
// Fields are named by json tags; wire tags bound their values:
//
//	required   the key must be there
//	null       null is a value (Raw, any and pointers)
//	id         1 to 256 bytes without control characters
//	min, max   of a number, of a string's characters, of a list's length
//	oneof=a|b  of a string
//
// Strings are copied; Raw and json.RawMessage alias data. Integers must be integral and
// fit. A type with UnmarshalJSON is given its text, already checked. The error is a
// *SyntaxError or a *FieldError; it panics if v is of a type that it cannot read.
func Decode(data []byte, v any) error { return decode(data, v, false) }

// DecodeLoose is Decode for what others define and extend: unknown keys are ignored, and a null
// field is an absent one.
func DecodeLoose(data []byte, v any) error { return decode(data, v, true) }

// DecodeParams reads the params of a request that ParseRequest returned into what v points to,
// and calls its Validate method, if it has one. Absent params are an empty object.
func DecodeParams(method string, params Raw, v any) *Error {
	if len(params) == 0 {
		params = Raw("{}")
	}
	err := decode(params, v, false)
	if val, ok := v.(interface{ Validate() error }); ok && err == nil {
		err = val.Validate()
	}
	switch err := err.(type) {
	case nil:
		return nil
	case *Error:
		return err
	default:
		return InvalidRequest("invalid %s params: %v", method, err)
	}
}

func decode(data []byte, v any, loose bool) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		panic(fmt.Sprintf("wire: decode into %T", v))
	}
	d := decoder{scanner: scanner{data: data}, loose: loose}
	err := d.begin()
	if err == nil {
		err = d.value(planOf(p.Type().Elem()), &anyValue, p.Elem())
	}
	if err == nil {
		err = d.end()
	}
	if err != nil {
		return err
	}
	return joinFields(d.problems)
}

type decoder struct {
	scanner
	loose    bool
	problems []FieldError
}

// maxProblems bounds what one wrong document makes us write.
const maxProblems = 8

// problem notes what is wrong with the current value. Whoever walks into a value puts its
// place in front afterwards: see under.
func (d *decoder) problem(msg string) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, FieldError{Msg: msg})
	}
}

// under says that the problems from the first on are within the member, or the element if key is nil.
func (d *decoder) under(first int, key []byte, index int) {
	for i := first; i < len(d.problems); i++ {
		name := strconv.Itoa(index)
		if key != nil {
			name = strings.NewReplacer("~", "~0", "/", "~1").Replace(printable(key))
		}
		d.problems[i].Path = "/" + name + d.problems[i].Path
	}
}

// mismatch reports that another type was expected and moves past what is there.
func (d *decoder) mismatch(p *plan) *SyntaxError {
	d.problem("must be " + p.kind.String())
	_, err := d.skip()
	return err
}

// value reads one value into v by plan p under rules r. It returns an error only for what is not
// JSON; what does not fit is collected in d.problems, and then v is of no use.
func (d *decoder) value(p *plan, r *rules, v reflect.Value) *SyntaxError {
	c := d.peek()
	if c == 'n' && p.kind != kindRaw && p.kind != kindAny && p.kind != kindCustom {
		return d.null(p, r, v)
	}
	switch p.kind {
	case kindPointer:
		e := reflect.New(p.elem.typ)
		err := d.value(p.elem, r, e.Elem())
		v.Set(e)
		return err
	case kindPatch:
		v.Field(0).SetBool(true)
		return d.value(p.elem, r, v.Field(1))
	case kindRaw, kindCustom:
		if c == 'n' && !r.null {
			return d.mismatch(p)
		}
		raw, err := d.skip()
		if err != nil {
			return err
		}
		if p.kind == kindRaw {
			v.SetBytes(raw)
		} else if err := v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(raw); err != nil {
			d.problem(err.Error())
		}
		return nil
	case kindAny:
		if c == 'n' && !r.null {
			return d.mismatch(p)
		}
		return d.any(c, v)
	case kindStruct:
		if c == '{' {
			return d.structure(p, v)
		}
	case kindMap:
		if c == '{' {
			return d.mapping(p, v)
		}
	case kindSlice:
		if c == '[' {
			return d.list(p, r, v)
		}
	case kindString:
		if c == '"' {
			return d.text(r, v)
		}
	case kindBool:
		if c == 't' || c == 'f' {
			v.SetBool(c == 't')
			return d.scalar(c)
		}
	default:
		if c == '-' || '0' <= c && c <= '9' {
			return d.numeral(p, r, v)
		}
	}
	return d.mismatch(p)
}

func (d *decoder) null(p *plan, r *rules, v reflect.Value) *SyntaxError {
	switch {
	case p.kind == kindPatch:
		v.Field(0).SetBool(true)
	case p.kind == kindPointer && r.null:
		v.SetZero()
	case p.kind == kindPointer:
		return d.mismatch(p.elem)
	default:
		return d.mismatch(p)
	}
	return d.scalar('n')
}

func (d *decoder) structure(p *plan, v reflect.Value) *SyntaxError {
	var o object
	if err := d.open(); err != nil {
		return err
	}
	base := len(d.problems)
	var seen uint64
	var missing, unknown []FieldError
	for hint := 0; ; {
		key, more, err := d.member(&o)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		i := p.find(key, hint)
		if i < 0 {
			if !d.loose && !p.open && len(unknown) < maxProblems {
				unknown = append(unknown, FieldError{Msg: unexpectedProperty + "'" + printable(key) + "'"})
			}
			if _, err := d.skip(); err != nil {
				return err
			}
			continue
		}
		hint = i + 1
		f := &p.fields[i]
		if d.loose && !f.null && d.peek() == 'n' {
			if err := d.scalar('n'); err != nil {
				return err
			}
			continue
		}
		seen |= 1 << i
		n := len(d.problems)
		if err := d.value(f.plan, &f.rules, v.FieldByIndex(f.index)); err != nil {
			return err
		}
		d.under(n, key, 0)
	}
	for i, f := range p.fields {
		if p.required&^seen&(1<<i) != 0 {
			missing = append(missing, FieldError{Msg: requiredMsg(f.name)})
		}
	}
	// Validators list these ahead of what is wrong with known members.
	d.problems = slices.Insert(d.problems, base, append(missing, unknown...)...)
	d.problems = d.problems[:min(len(d.problems), maxProblems)]
	return nil
}

func (d *decoder) mapping(p *plan, v reflect.Value) *SyntaxError {
	var o object
	if err := d.open(); err != nil {
		return err
	}
	v.Set(reflect.MakeMap(p.typ))
	for {
		key, more, err := d.member(&o)
		if err != nil || !more {
			return err
		}
		e := reflect.New(p.elem.typ).Elem()
		n := len(d.problems)
		if err := d.value(p.elem, &anyValue, e); err != nil {
			return err
		}
		d.under(n, key, 0)
		v.SetMapIndex(reflect.ValueOf(string(key)).Convert(p.typ.Key()), e)
	}
}

func (d *decoder) list(p *plan, r *rules, v reflect.Value) *SyntaxError {
	if err := d.open(); err != nil {
		return err
	}
	v.Set(reflect.MakeSlice(p.typ, 0, 0))
	elem := rules{null: p.elem.kind != kindPointer, id: r.id, oneof: r.oneof}
	for n := 0; ; n++ {
		more, err := d.element(n)
		if err != nil {
			return err
		}
		if !more {
			if r.hasMin && float64(n) < r.min {
				d.problem("must NOT have fewer than " + formatBound(r.min) + " items")
			}
			return nil
		}
		if r.hasMax && float64(n) >= r.max {
			if float64(n) == r.max {
				d.problem("must NOT have more than " + formatBound(r.max) + " items")
			}
			_, err = d.skip()
		} else {
			v.Grow(1)
			v.SetLen(n + 1)
			known := len(d.problems)
			err = d.value(p.elem, &elem, v.Index(n))
			d.under(known, nil, n)
		}
		if err != nil {
			return err
		}
	}
}

func (d *decoder) text(r *rules, v reflect.Value) *SyntaxError {
	s, err := d.string()
	if err != nil {
		return err
	}
	if msg := r.checkText(s); msg != "" {
		d.problem(msg)
	}
	v.SetString(s)
	return nil
}

// string reads the string that begins here.
func (d *decoder) string() (string, *SyntaxError) {
	if err := d.token(); err != nil {
		return "", err
	}
	text, escaped, err := d.str()
	if err != nil || !escaped {
		return string(text), err
	}
	return string(unescape(make([]byte, 0, len(text)), text)), nil
}

func (d *decoder) numeral(p *plan, r *rules, v reflect.Value) *SyntaxError {
	if err := d.token(); err != nil {
		return err
	}
	text, err := d.number()
	if err != nil {
		return err
	}
	x, perr := strconv.ParseFloat(string(text), 64)
	n, integral := integer(string(text), x)
	switch {
	case p.kind == kindFloat && perr == nil && !v.OverflowFloat(x):
		v.SetFloat(x)
	case p.kind == kindInt && integral && !v.OverflowInt(n):
		v.SetInt(n)
	default:
		d.problem("must be " + p.kind.String())
		return nil
	}
	if r.hasMin && x < r.min {
		d.problem("must be >= " + formatBound(r.min))
	} else if r.hasMax && x > r.max {
		d.problem("must be <= " + formatBound(r.max))
	}
	return nil
}

// integer returns the number text as an integer. 1.0 and 1e3 are integers too, as
// in JSON Schema, as long as a float64 holds them exactly.
func integer(text string, x float64) (int64, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	const exact = 1 << 53
	return int64(x), x == math.Trunc(x) && -exact <= x && x <= exact
}

func formatBound(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// any reads a value of any type, as what encoding/json makes of it.
func (d *decoder) any(c byte, v reflect.Value) *SyntaxError {
	var t reflect.Type
	switch c {
	case '{':
		t = reflect.TypeFor[map[string]any]()
	case '[':
		t = reflect.TypeFor[[]any]()
	case '"':
		t = reflect.TypeFor[string]()
	case 't', 'f':
		t = reflect.TypeFor[bool]()
	case 'n':
		v.SetZero()
		return d.scalar(c)
	default:
		t = reflect.TypeFor[float64]()
	}
	e := reflect.New(t).Elem()
	err := d.value(planOf(t), &anyValue, e)
	v.Set(e)
	return err
}

// printable returns the start of a key that a stranger chose, fit for a message.
func printable(key []byte) string {
	const enough = 64
	if len(key) > enough {
		key = key[:enough]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, string(key))
}
