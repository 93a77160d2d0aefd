package svc

import (
	"context"
	"strings"
	"time"

	"openclaw/wire"
)

// call asks a gateway to run one method and prints what it answered.
func call(ctx context.Context, e *Env, a *Args) error {
	params, err := readParams(e, a.Get("params"))
	if err != nil {
		return err
	}
	l, err := dial(ctx, e, a, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	var raw wire.Raw
	if a.Has("expect-final") {
		raw, err = l.askFinal(ctx, a.Word(0), 15*time.Minute, params, nil)
	} else {
		raw, err = l.ask(ctx, a.Word(0), params, nil)
	}
	if err != nil {
		return err
	}
	return e.printJSON(raw)
}

// readParams returns the JSON that --params stands for: itself, a file or stdin.
func readParams(e *Env, s string) (wire.Raw, error) {
	raw := []byte(s)
	var err error
	if s == "" {
		return wire.Raw("{}"), nil
	}
	if file, isFile := strings.CutPrefix(s, "@"); isFile || s == "-" {
		raw, err = e.readInput(file)
	}
	if err != nil {
		return nil, usage("--params: %v", err)
	}
	raw = []byte(strings.TrimSpace(string(raw)))
	var v wire.Raw
	if err := wire.Decode(raw, &v); err != nil {
		return nil, usage("--params: not JSON: %v", err)
	}
	if raw[0] != '{' {
		return nil, usage("--params: must be a JSON object")
	}
	return v, nil
}
