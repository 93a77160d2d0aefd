package channel

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// What of the Bot API's objects is read.
type (
	tgUpdate struct {
		ID      int64      `json:"update_id"`
		Message *tgMessage `json:"message"`
		Edited  *tgMessage `json:"edited_message"`
	}
	tgUser struct {
		ID       int64  `json:"id"`
		IsBot    bool   `json:"is_bot"`
		First    string `json:"first_name"`
		Last     string `json:"last_name"`
		Username string `json:"username"`
	}
	tgChat struct {
		ID    int64  `json:"id"`
		Type  string `json:"type"`
		Forum bool   `json:"is_forum"`
	}
	tgMessage struct {
		ID            int64           `json:"message_id"`
		Thread        int64           `json:"message_thread_id"`
		Topic         bool            `json:"is_topic_message"`
		From          *tgUser         `json:"from"`
		Chat          tgChat          `json:"chat"`
		SenderChat    *tgChat         `json:"sender_chat"` // who is no person: an anonymous administrator, a channel
		MigrateTo     int64           `json:"migrate_to_chat_id"`
		ForwardDate   int64           `json:"forward_date"`
		ForwardOrigin json.RawMessage `json:"forward_origin"`
		ReplyTo       *tgMessage      `json:"reply_to_message"`
		Text          string          `json:"text"`
		Caption       string          `json:"caption"`
		Entities      []tgEntity      `json:"entities"`
		CaptionEnts   []tgEntity      `json:"caption_entities"`
		Photo         []tgFile        `json:"photo"`
		Document      *tgFile         `json:"document"`
		Voice         *tgFile         `json:"voice"`
		Audio         *tgFile         `json:"audio"`
		Video         *tgFile         `json:"video"`
		VideoNote     *tgFile         `json:"video_note"`
		Sticker       *struct {
			Emoji string `json:"emoji"`
		} `json:"sticker"`
		Location *struct {
			Latitude  float64 `json:"latitude"`
			Longitude float64 `json:"longitude"`
		} `json:"location"`
		Contact *struct {
			tgUser
			Phone string `json:"phone_number"`
		} `json:"contact"`
	}
	tgEntity struct {
		Type   string  `json:"type"`
		Offset int     `json:"offset"`
		Length int     `json:"length"`
		User   *tgUser `json:"user"`
	}
	tgFile struct {
		ID   string `json:"file_id"`
		Size int64  `json:"file_size"`
		Path string `json:"file_path"`
		Name string `json:"file_name"`
		MIME string `json:"mime_type"`
	}
)

const (
	fileTime         = 30 * time.Second // for the files of one batch, while nothing else of the account is read
	telegramDownload = 20 << 20         // the cloud's own bound for getFile
	generalTopic     = "1"              // of a forum, which messages do not name and may not be sent to by name
)

// inbound is an update as a message, if it is one that somebody said.
func (t *telegram) inbound(u *tgUpdate) (Inbound, bool) {
	m, me := u.Message, t.me.Load()
	edited := m == nil
	if edited {
		m = u.Edited
	}
	if m == nil || m.From == nil || m.From.IsBot || m.SenderChat != nil || m.From.ID <= 0 || m.Chat.ID == 0 || m.Chat.Type == "channel" {
		return Inbound{}, false
	}
	in := Inbound{
		ID: strconv.FormatInt(u.ID, 10), From: strconv.FormatInt(m.From.ID, 10), Chat: strconv.FormatInt(m.Chat.ID, 10),
		Group: m.Chat.Type != "private", Name: plain(m.From.First+" "+m.From.Last, 64), Text: cmp.Or(m.Text, m.Caption, m.wordless()),
		Message: strconv.FormatInt(m.ID, 10), Edited: edited, Forwarded: m.ForwardDate != 0 || len(m.ForwardOrigin) > 0,
	}
	switch {
	case m.Topic && m.Thread != 0:
		in.Thread = strconv.FormatInt(m.Thread, 10)
	case m.Chat.Forum:
		in.Thread = generalTopic
	}
	if r := m.ReplyTo; r != nil {
		in.Mentioned = r.From != nil && r.From.ID == me.ID
		in.Quote = cmp.Or(r.Text, r.Caption)
	}
	wide := utf16.Encode([]rune(in.Text))
	for _, e := range append(m.Entities, m.CaptionEnts...) {
		if e.Offset < 0 || e.Length < 0 || e.Offset > len(wide) || e.Length > len(wide)-e.Offset {
			continue
		}
		word := string(utf16.Decode(wide[e.Offset : e.Offset+e.Length]))
		name := "@" + me.Username
		switch e.Type {
		case "mention":
			in.Mentioned = in.Mentioned || strings.EqualFold(word, name)
		case "text_mention":
			in.Mentioned = in.Mentioned || e.User != nil && e.User.ID == me.ID
		case "bot_command": // /status@name is for us, and reads as /status
			if cmd, to, ok := strings.Cut(word, "@"); ok && strings.EqualFold("@"+to, name) {
				in.Mentioned = true
				in.Text = strings.Replace(in.Text, word, cmd, 1)
			}
		}
	}
	return in, in.Text != "" || len(m.Photo) > 0 || m.Document != nil || m.Voice != nil || m.Audio != nil || m.Video != nil || m.VideoNote != nil
}

// wordless is what somebody said by other things than words and files.
func (m *tgMessage) wordless() string {
	switch {
	case m.Sticker != nil:
		return "[sticker " + plain(m.Sticker.Emoji, 32) + "]"
	case m.Location != nil:
		return fmt.Sprintf("[location %v, %v]", m.Location.Latitude, m.Location.Longitude)
	case m.Contact != nil:
		return "[contact " + plain(m.Contact.First+" "+m.Contact.Last+" "+m.Contact.Phone, 128) + "]"
	}
	return ""
}

// fetch adds the files of a message that was let in: pictures and text; of
// others, and of what cannot be had until ctx ends, the text says so.
func (t *telegram) fetch(ctx context.Context, in *Inbound, m *tgMessage) {
	if m == nil {
		return
	}
	var files []tgFile
	if n := len(m.Photo); n > 0 {
		files = append(files, m.Photo[n-1])
		files[0].MIME, files[0].Name = "image/jpeg", "photo.jpg"
	}
	for name, f := range map[string]*tgFile{"document": m.Document, "voice message": m.Voice, "audio": m.Audio, "video": m.Video, "round video": m.VideoNote} {
		if f != nil { // a message has one of them
			f.Name = cmp.Or(f.Name, name)
			files = append(files, *f)
		}
	}
	for _, f := range files {
		name := plain(f.Name, 128)
		why := ""
		data, err := []byte(nil), error(nil)
		image, text := strings.HasPrefix(f.MIME, "image/"), strings.HasPrefix(f.MIME, "text/") || f.MIME == "application/json"
		switch {
		case !image && !text:
			why = "this kind is not read"
		case ctx.Err() != nil:
			why = "others before it took too long"
		case f.Size > min(t.maxFile, telegramDownload):
			why = "it is too large"
		default:
			data, err = t.download(ctx, f.ID)
			if err == nil && text && !utf8.Valid(data) {
				err = fmt.Errorf("it is not UTF-8")
			}
			if err != nil {
				why = err.Error()
			}
		}
		if why != "" {
			in.Text = strings.TrimSpace(fmt.Sprintf("%s\n\n[%s, %s, %d KB was not fetched: %s]", in.Text, name, cmp.Or(plain(f.MIME, 64), "no type"), max(1, f.Size/1024), why))
			continue
		}
		in.Files = append(in.Files, File{Name: name, MIME: f.MIME, Data: data})
	}
}

func (t *telegram) download(ctx context.Context, id string) ([]byte, error) {
	var f tgFile
	if err := t.call(ctx, callTime, "getFile", map[string]any{"file_id": id}, &f); err != nil {
		return nil, err
	}
	if clean := path.Clean("/" + f.Path); f.Path == "" || clean != "/"+f.Path {
		return nil, fmt.Errorf("telegram: a file path that is none")
	}
	resp, err := t.request(ctx, http.MethodGet, "/file/bot"+t.token+"/"+(&url.URL{Path: f.Path}).EscapedPath(), "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("telegram: %s", resp.Status)
	}
	limit := min(t.maxFile, telegramDownload)
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, t.redact(fmt.Errorf("telegram: the file broke off: %w", err))
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("telegram: a file of more than %d bytes", limit)
	}
	return data, nil
}

// upload sends one file: a picture as such where the API takes it, else a document.
func (t *telegram) upload(ctx context.Context, in map[string]any, f File) (m tgMessage, err error) {
	if (f.MIME == "image/png" || f.MIME == "image/jpeg") && len(f.Data) <= 10<<20 {
		m, err = t.uploadAs(ctx, "sendPhoto", "photo", in, f)
		var e *apiError
		if !errors.As(err, &e) || !e.spoken || e.code != http.StatusBadRequest || e.moved != 0 {
			return m, err
		}
	}
	return t.uploadAs(ctx, "sendDocument", "document", in, f)
}

func (t *telegram) uploadAs(ctx context.Context, method, field string, in map[string]any, f File) (m tgMessage, err error) {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for key, value := range in {
		raw, err := json.Marshal(value)
		if err != nil {
			return m, final("telegram: the request cannot be written: %w", err)
		}
		text := string(raw)
		if s, ok := value.(string); ok {
			text = s
		}
		w.WriteField(key, text)
	}
	h := textproto.MIMEHeader{}
	name := strings.NewReplacer(`"`, "", "\\", "", "\r", "", "\n", "").Replace(cmp.Or(path.Base(f.Name), "file"))
	h.Set("Content-Disposition", fmt.Sprintf(`form-data; name=%q; filename="%s"`, field, name))
	h.Set("Content-Type", cmp.Or(f.MIME, "application/octet-stream"))
	part, err := w.CreatePart(h)
	if err == nil {
		_, err = part.Write(f.Data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return m, err
	}
	return m, t.post(ctx, 2*time.Minute, method, w.FormDataContentType(), body.Bytes(), &m)
}
