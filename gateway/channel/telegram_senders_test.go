package channel

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"openclaw/reload/config"
)

// TestTelegramSenders is the table of who may speak, by numeric id: 7 is the
// owner, whom the list names; 8 is somebody else, who calls himself as the
// owner does.
func TestTelegramSenders(t *testing.T) {
	type conf = config.ChannelAccount
	private := func(from int64, more string) string {
		return fmt.Sprintf(`"message":{"message_id":5,"from":{"id":%d,"first_name":"Owner","username":"owner"},"chat":{"id":%d,"type":"private"},"text":"hi"%s}`, from, from, more)
	}
	group := func(from int64, text, more string) string {
		return fmt.Sprintf(`"message":{"message_id":5,"from":{"id":%d,"first_name":"Owner","username":"owner"},"chat":{"id":-100,"type":"supergroup"},"text":%q%s}`, from, text, more)
	}
	entity := func(kind string, offset, length int64, more string) string {
		return fmt.Sprintf(`,"entities":[{"type":%q,"offset":%d,"length":%d%s}]`, kind, offset, length, more)
	}
	named := entity("mention", 3, 9, "")
	// forum is a message in a topic, 0 for General.
	forum := func(from int64, topic int) string {
		s := strings.Replace(group(from, "hi @claw_bot", named), `"supergroup"`, `"supergroup","is_forum":true`, 1)
		if topic != 0 {
			s = strings.Replace(s, `"text"`, fmt.Sprintf(`"is_topic_message":true,"message_thread_id":%d,"text"`, topic), 1)
		}
		return s
	}
	dm := func(policy string, list ...string) func(*conf) {
		return func(c *conf) { c.DMPolicy, c.AllowFrom = policy, list }
	}
	groups := func(g config.Group) func(*conf) {
		g.Enabled = true
		return func(c *conf) { c.Groups = map[string]config.Group{"-100": g} }
	}
	topics := func(t config.Topic) func(*conf) {
		return groups(config.Group{Topics: map[string]config.Topic{"5": t}})
	}
	direct := func(person string, d config.Direct) func(*conf) {
		return func(c *conf) { c.Direct = map[string]config.Direct{person: d} }
	}
	const no, yes, code = refused, admitted, asked
	for _, c := range []struct {
		name, update string
		change       func(*conf)
		want         verdict
	}{
		{"unknown, allowlist", private(8, ""), nil, no},
		{"unknown, pairing", private(8, ""), dm("pairing", "7"), code},
		{"unknown, open", private(8, ""), dm("open", "*"), yes},
		{"unknown, open and not confirmed", private(8, ""), dm("open", "7"), no},
		{"unknown, pairing, everybody listed", private(8, ""), dm("pairing", "*"), yes},
		{"listed, disabled", private(7, ""), dm("disabled", "7", "*"), no},
		{"listed", private(7, ""), nil, yes},
		{"listed, pairing", private(7, ""), dm("pairing", "7"), yes},
		{"listed, forwarded", private(7, `,"forward_origin":{"type":"user","sender_user":{"id":8}}`), nil, yes},
		{"unknown forwards what the owner said", private(8, `,"forward_origin":{"type":"user","sender_user":{"id":7}},"forward_from":{"id":7}`), nil, no},
		{"display name listed", private(8, ""), dm("allowlist", "Owner"), no},
		{"username listed", private(8, ""), dm("allowlist", "owner", "@owner"), no},
		{"id listed as a part", private(78, ""), nil, no},
		{"allowFrom is empty", private(7, ""), dm("allowlist", []string{}...), no},
		{"no allowFrom", private(7, ""), func(c *conf) { c.AllowFrom = nil }, no},
		{"edited", strings.Replace(private(7, ""), "message", "edited_message", 1), nil, no},
		{"callback", `"callback_query":{"id":"1","from":{"id":7},"data":"x","message":{"message_id":1,"from":{"id":7},"chat":{"id":7,"type":"private"},"text":"hi"}}`, nil, no},
		{"channel post", `"channel_post":{"message_id":1,"from":{"id":7},"chat":{"id":-5,"type":"channel"},"text":"x"}`, nil, no},
		{"edited channel post", `"edited_channel_post":{"message_id":1,"from":{"id":7},"chat":{"id":-5,"type":"channel"},"text":"x"}`, nil, no},
		{"message in a channel", strings.Replace(private(7, ""), "private", "channel", 1), nil, no},
		{"business message", strings.Replace(private(7, ""), "message", "business_message", 1), nil, no},
		{"another bot", strings.Replace(private(7, ""), `"id":7,`, `"id":7,"is_bot":true,`, 1), nil, no},
		{"no sender", `"message":{"message_id":5,"chat":{"id":7,"type":"private"},"text":"hi"}`, dm("open", "*"), no},
		{"nobody's id", private(0, ""), dm("open", "*", "0"), no},
		{"anonymous administrator", group(7, "hi @claw_bot", named+`,"sender_chat":{"id":-100,"type":"supergroup"}`), nil, no},
		{"a channel as sender", group(7, "hi @claw_bot", named+`,"sender_chat":{"id":-5,"type":"channel"}`), nil, no},
		{"reply that quotes the owner", group(8, "hi", `,"reply_to_message":{"message_id":1,"from":{"id":7},"text":"hi @claw_bot"}`), nil, no},

		{"person switched off", private(7, ""), direct("7", config.Direct{}), no},
		{"everybody else switched off", private(7, ""), direct("*", config.Direct{}), no},
		{"person with a policy", private(7, ""), direct("7", config.Direct{Enabled: true, DMPolicy: "disabled"}), no},
		{"another person's", private(7, ""), direct("8", config.Direct{}), yes},
		{"person with a list", private(8, ""), direct("8", config.Direct{Enabled: true, AllowFrom: []string{"8"}}), yes},
		{"person not in the own list", private(7, ""), direct("7", config.Direct{Enabled: true, AllowFrom: []string{}}), no},
		{"not in the own list, pairing", private(8, ""), direct("8", config.Direct{Enabled: true, DMPolicy: "pairing", AllowFrom: []string{}}), no},
		{"pairing for one person", private(8, ""), direct("8", config.Direct{Enabled: true, DMPolicy: "pairing"}), code},
		{"topic wanted", private(7, ""), direct("*", config.Direct{Enabled: true, RequireTopic: true}), no},
		{"topic given", private(7, `,"is_topic_message":true,"message_thread_id":3`), direct("*", config.Direct{Enabled: true, RequireTopic: true}), yes},

		{"group without mention", group(7, "hi all", ""), nil, no},
		{"group, mentioned", group(7, "hi @claw_bot", named), nil, yes},
		{"group, mentioned in capitals", group(7, "hi @CLAW_bot", named), nil, yes},
		{"group, another is mentioned", group(7, "hi @claw_bob", named), nil, no},
		{"group, named without an entity", group(7, "hi @claw_bot", ""), nil, no},
		{"group, offset in UTF-16 units", group(7, "🦞🦞 @claw_bot", entity("mention", 5, 9, "")), nil, yes},
		{"group, offset in characters", group(7, "🦞🦞 @claw_bot", entity("mention", 3, 9, "")), nil, no},
		{"group, offset beyond the text", group(7, "@claw_bot", entity("mention", 1<<40, 9, "")), nil, no},
		{"group, negative offset", group(7, "@claw_bot", entity("mention", -1, 9, "")), nil, no},
		{"group, length overflows", group(7, "@claw_bot", entity("mention", 1, 1<<62, "")), nil, no},
		{"group, text mention of us", group(7, "you there", entity("text_mention", 0, 3, `,"user":{"id":4242}`)), nil, yes},
		{"group, text mention of another", group(7, "you there", entity("text_mention", 0, 3, `,"user":{"id":4243,"username":"claw_bot"}`)), nil, no},
		{"group, text mention of nobody", group(7, "you there", entity("text_mention", 0, 3, "")), nil, no},
		{"group, command for us", group(7, "/status@claw_bot", entity("bot_command", 0, 16, "")), nil, yes},
		{"group, command for another", group(7, "/status@other_bot", entity("bot_command", 0, 17, "")), nil, no},
		{"group, command for nobody", group(7, "/status", entity("bot_command", 0, 7, "")), nil, no},
		{"group, reply to us", group(7, "yes", `,"reply_to_message":{"message_id":1,"from":{"id":4242}}`), nil, yes},
		{"group, reply to another", group(7, "yes", `,"reply_to_message":{"message_id":1,"from":{"id":9,"username":"claw_bot"}}`), nil, no},
		{"group, caption names us", strings.Replace(group(7, "hi @claw_bot", strings.Replace(named, "entities", "caption_entities", 1)), `"text"`, `"photo":[{"file_id":"x"}],"caption"`, 1), nil, yes},
		{"group, stranger mentions", group(8, "hi @claw_bot", named), nil, no},
		{"group, paired strangers are nobody", group(8, "hi @claw_bot", named), func(c *conf) { c.DMPolicy = "pairing" }, no},
		{"group, no mention wanted", group(7, "hi", ""), groups(config.Group{}), yes},
		{"group, not named", group(7, "hi @claw_bot", named), func(c *conf) { c.Groups = map[string]config.Group{"-101": {Enabled: true}} }, no},
		{"group, none named", group(7, "hi @claw_bot", named), func(c *conf) { c.Groups = nil }, no},
		{"group, none named, open", group(8, "hi @claw_bot", named), func(c *conf) { c.Groups, c.GroupPolicy = nil, "open" }, yes},
		{"group, none named, open, no mention", group(8, "hi", ""), func(c *conf) { c.Groups, c.GroupPolicy = nil, "open" }, no},
		{"group, another named, open", group(8, "hi @claw_bot", named), func(c *conf) {
			c.Groups, c.GroupPolicy = map[string]config.Group{"-101": {Enabled: true}}, "open"
		}, no},
		{"group switched off", group(7, "hi @claw_bot", named), func(c *conf) { c.Groups = map[string]config.Group{"-100": {}, "*": {Enabled: true}} }, no},
		{"groups disabled", group(7, "hi @claw_bot", named), func(c *conf) { c.GroupPolicy = "disabled" }, no},
		{"groups disabled, this one open", group(7, "hi", ""), func(c *conf) {
			c.GroupPolicy, c.Groups = "disabled", map[string]config.Group{"-100": {Enabled: true, GroupPolicy: "open"}}
		}, no},
		{"this group disabled", group(7, "hi", ""), groups(config.Group{GroupPolicy: "disabled"}), no},
		{"this group open", group(8, "hi", ""), groups(config.Group{GroupPolicy: "open"}), yes},
		{"this group's list", group(8, "hi", ""), groups(config.Group{AllowFrom: []string{"8"}}), yes},
		{"this group's list is not the account's", group(7, "hi", ""), groups(config.Group{AllowFrom: []string{"8"}}), no},
		{"this group's list binds though it is open", group(7, "hi", ""), groups(config.Group{GroupPolicy: "open", AllowFrom: []string{"8"}}), no},
		{"this group's list is empty", group(7, "hi", ""), groups(config.Group{GroupPolicy: "open", AllowFrom: []string{}}), no},
		{"this group's list is everybody", group(8, "hi", ""), groups(config.Group{AllowFrom: []string{"*"}}), yes},
		{"groupAllowFrom in place of allowFrom", group(7, "hi @claw_bot", named), func(c *conf) { c.GroupAllowFrom = []string{"8"} }, no},
		{"groupAllowFrom", group(8, "hi @claw_bot", named), func(c *conf) { c.GroupAllowFrom = []string{"8"} }, yes},
		{"groupAllowFrom is empty", group(7, "hi @claw_bot", named), func(c *conf) { c.GroupAllowFrom = []string{} }, no},

		{"topic", forum(7, 5), nil, yes},
		{"topic switched off", forum(7, 5), topics(config.Topic{}), no},
		{"another topic switched off", forum(7, 6), topics(config.Topic{}), yes},
		{"General switched off", forum(7, 0), groups(config.Group{Topics: map[string]config.Topic{"1": {}}}), no},
		{"all other topics switched off", forum(7, 6), groups(config.Group{Topics: map[string]config.Topic{"*": {}, "5": {Enabled: true}}}), no},
		{"topic disabled", forum(7, 5), topics(config.Topic{Enabled: true, GroupPolicy: "disabled"}), no},
		{"topic open", forum(8, 5), topics(config.Topic{Enabled: true, GroupPolicy: "open"}), yes},
		{"topic's list", forum(8, 5), topics(config.Topic{Enabled: true, AllowFrom: []string{"8"}}), yes},
		{"topic's list is not the account's", forum(7, 5), topics(config.Topic{Enabled: true, AllowFrom: []string{"8"}}), no},
		{"thread of answers is no topic", group(7, "hi", `,"message_thread_id":5`), topics(config.Topic{}), yes},
		{"the old group after its migration", strings.Replace(group(7, "hi @claw_bot", named), "-100", "-4", 1), nil, yes},
		{"the new group, not named", strings.Replace(group(7, "hi @claw_bot", named), "-100", "-1004", 1), nil, no},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, api := newRig(t), newFakeAPI(t)
			conf := bot(api.srv.URL)
			conf.Groups = map[string]config.Group{"-100": {Enabled: true, RequireMention: true}, "-4": {Enabled: true, RequireMention: true}}
			if c.change != nil {
				c.change(&conf)
			}
			api.push(10, c.update)
			r.set.Apply([]config.ChannelAccount{conf})
			account, err := r.set.Account("telegram", "")
			if err != nil {
				t.Fatal(err)
			}
			r.until("the offset", func() bool { return account.Offset() == 11 })
			want := 0
			if c.want != refused {
				want = 1
			}
			r.until("the reply", func() bool { s := account.Status(); return len(api.sent()) >= want && s.Waiting == 0 && s.Queued == 0 })
			r.mu.Lock()
			n := len(r.got)
			r.mu.Unlock()
			if (n == 1) != (c.want == admitted) {
				t.Errorf("handed on %d times", n)
			}
			sent := api.sent()
			if c.want == asked {
				pending, _, err := r.set.Pending("telegram")
				if err != nil || len(pending) != 1 || !strings.Contains(sent[0], pending[0].Code) || pending[0].ID != "8" {
					t.Errorf("%v, %v; told %q", pending, err, sent)
				}
			} else if len(sent) != want {
				t.Errorf("sent %q", sent)
			}
		})
	}
}

// TestTelegramMigration: a group that gets a new id is heard again when the
// configuration names that, which the log tells.
func TestTelegramMigration(t *testing.T) {
	r, api := newRig(t), newFakeAPI(t)
	api.push(10, `"message":{"message_id":5,"from":{"id":7},"chat":{"id":-4,"type":"group"},"migrate_to_chat_id":-1004}`)
	api.push(11, `"message":{"message_id":1,"from":{"id":7},"chat":{"id":-1004,"type":"supergroup"},"migrate_from_chat_id":-4}`)
	api.push(12, `"message":{"message_id":2,"from":{"id":7},"chat":{"id":-1004,"type":"supergroup"},"text":"hi"}`)
	conf := bot(api.srv.URL)
	conf.Groups = map[string]config.Group{"-4": {Enabled: true}}
	r.set.Apply([]config.ChannelAccount{conf})
	account, _ := r.set.Account("telegram", "")
	r.until("all three", func() bool { return account.Offset() == 13 })
	if logs := r.logs.String(); !strings.Contains(logs, "new id") || !strings.Contains(logs, "new=-1004") || len(r.got) != 0 {
		t.Errorf("handed on %v\n%s", r.got, logs)
	}
}

// FuzzTelegramUpdate: whatever the network sends, nothing falls, and nobody is
// let in but by the id that the list has.
func FuzzTelegramUpdate(f *testing.F) {
	for _, s := range []string{
		`{"update_id":1,"message":{"message_id":1,"from":{"id":7},"chat":{"id":7,"type":"private"},"text":"hi"}}`,
		`{"update_id":1,"message":{"message_id":1,"from":{"id":8,"username":"7","first_name":"7"},"chat":{"id":7,"type":"private"},"text":"7"}}`,
		`{"update_id":1,"message":{"message_id":1,"from":{"id":7},"chat":{"id":-100,"type":"supergroup","is_forum":true},"text":"🦞 @claw_bot","entities":[{"type":"mention","offset":3,"length":9}]}}`,
		`{"update_id":1,"message":{"message_id":1,"from":{"id":7},"chat":{"id":-100,"type":"group"},"text":"/a@claw_bot /b","entities":[{"type":"bot_command","offset":0,"length":11}]}}`,
		`{"update_id":1,"edited_message":{"from":{"id":7},"chat":{"id":7,"type":"private"},"text":"hi"}}`,
		`{"update_id":1,"message":{"from":{"id":7},"sender_chat":{"id":-5},"chat":{"id":-100},"reply_to_message":{"from":{"id":4242},"text":"x"},"document":{"file_id":"x"}}}`,
		`{"update_id":-1,"message":{"from":{"id":1e3},"chat":{}}}`,
	} {
		f.Add([]byte(s))
	}
	tg := &telegram{}
	tg.me.Store(&tgUser{ID: 4242, Username: "claw_bot"})
	conf := bot("")
	conf.Groups = map[string]config.Group{"*": {Enabled: true, RequireMention: true}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var u tgUpdate
		if json.Unmarshal(raw, &u) != nil {
			return
		}
		m, ok := tg.inbound(&u)
		if !ok || judge(&conf, &m, func(string) bool { return false }) != admitted {
			return
		}
		var bare struct {
			Message struct {
				From       struct{ ID int64 }
				SenderChat any `json:"sender_chat"`
			}
		}
		if err := json.Unmarshal(raw, &bare); err != nil || bare.Message.From.ID != 7 || bare.Message.SenderChat != nil || m.From != "7" {
			t.Errorf("%s was let in as %s", raw, m.From)
		}
		if m.Group && !m.Mentioned {
			t.Errorf("%s names nobody", raw)
		}
	})
}
