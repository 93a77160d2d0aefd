package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"openclaw/wire"
)

// furnishChannels is the base configuration of the cases below: a bot, a second
// one as the account fake, and a program.
func (r *rig) furnishChannels() {
	for i := range 2 {
		r.bots = append(r.bots, newBotAPI(r.t))
		r.bots[i].token = fmt.Sprintf("424%d:AAtokenOfTheBotNumber%[1]d", i)
	}
	bot := func(i int) object {
		return object{
			"botToken": r.bots[i].token, "apiRoot": r.bots[i].url, "direct": object{"7": object{}},
			"groups": object{"-100": object{"requireMention": false, "topics": object{"5": object{}}}},
		}
	}
	telegram := bot(0)
	second := bot(1)
	second["webhookPath"] = "/hooks/second" // two bots do not share a door
	telegram["allowFrom"], telegram["accounts"] = []any{7}, object{"fake": second}
	r.set("agents.list", []any{object{"id": "main"}, object{"id": "second", "systemPrompt": "I am second."}})
	r.set("bindings", []any{bound("main", object{"accountId": "*"})})
	r.set("messages", object{"ackReaction": "👍", "ackReactionScope": "all"})
	r.set("channels", object{"telegram": telegram, "fake": object{"kind": "process", "command": selfIs("one"), "accounts": object{"fake": object{}}}})
}

// selfIs is a program that is a channel and says who it is.
func selfIs(self string) []any {
	return []any{"/bin/sh", "-c", `echo '{"type":"hello","protocol":1,"name":"demo","version":"1","features":[]}'
echo '{"type":"state","state":"open","self":"` + self + `"}'
while read -r line; do case $line in *'"stop"'*) exit 0;; esac; done`}
}

func bound(agent string, match object) object {
	if match["channel"] == nil {
		match["channel"] = "telegram"
	}
	return object{"agentId": agent, "match": match}
}

// said are messages: from a person, to the bot or in topic 5 of the group -100.
func said(from int, group bool, text, more string) string {
	chat := fmt.Sprintf(`{"id":%d,"type":"private"}`, from)
	if group {
		chat = `{"id":-100,"type":"supergroup","is_forum":true},"is_topic_message":true,"message_thread_id":5`
	}
	return fmt.Sprintf(`"message":{"message_id":1,"from":{"id":%d,"first_name":"P"},"chat":%s,"text":%q%s}`, from, chat, text, more)
}

// channelCases are those of channels and bindings, and of what accounts say in place of their channel.
func channelCases() (channels, accounts []keyCase) {
	var cases []keyCase
	add := func(key, at string, to any, see func(*rig) error) {
		cases = append(cases, keyCase{key: key, at: at, to: to, see: see})
	}
	for i, name := range []string{"default", "fake"} {
		section, at := "channels.*.", "channels.telegram."
		if i == 1 {
			section, at = "channels.*.accounts.*.", "channels.telegram.accounts.fake."
		}
		in := func(key string, to any, see func(*rig) error) {
			add(section+strings.NewReplacer("-100", "*", "topics.5", "topics.*", "direct.7", "direct.*").Replace(key), at+key, to, see)
		}
		heard := func(from int, group, want bool) func(*rig) error {
			return func(r *rig) error {
				r.bots[i].push(said(from, group, "hello", ""))
				r.confirmed(i)
				if s := r.account("telegram", name); s == nil || (s.LastInboundAt != 0) != want {
					return fmt.Errorf("what %d said was heard: %+v; want %t", from, s, want)
				}
				return nil
			}
		}
		fails := func(why string) func(*rig) error {
			return func(r *rig) error {
				return r.eventuallyAccount("telegram", name, func(s *wire.ChannelAccount) bool { return s != nil && strings.Contains(s.LastError, why) })
			}
		}
		in("enabled", false, func(r *rig) error {
			if s := r.account("telegram", name); s != nil {
				return fmt.Errorf("it is connected: %+v", s)
			}
			return nil
		})
		in("botToken", fmt.Sprintf("424%d:another", i), fails("not accepted"))
		in("apiRoot", "$PROVIDER", fails("not JSON")) // which is another server
		in("network.family", "tcp4", shows("config.get", `"family":"tcp4"`))
		in("dmPolicy", "disabled", heard(7, false, false))
		in("allowFrom", []any{9}, heard(9, false, true))
		in("groupPolicy", "disabled", heard(7, true, false))
		in("groupAllowFrom", []any{9}, heard(9, true, true))
		in("groups.-100.enabled", false, heard(7, true, false))
		in("groups.-100.requireMention", true, heard(7, true, false))
		in("groups.-100.groupPolicy", "open", heard(9, true, true))
		in("groups.-100.allowFrom", []any{9}, heard(9, true, true))
		in("groups.-100.topics.5.enabled", false, heard(7, true, false))
		in("groups.-100.topics.5.requireMention", true, heard(7, true, false))
		in("groups.-100.topics.5.groupPolicy", "open", heard(9, true, true))
		in("groups.-100.topics.5.allowFrom", []any{9}, heard(9, true, true))
		in("groups.-100.topics.5.agentId", "second", answers(i, true, true))
		in("direct.7.enabled", false, heard(7, false, false))
		in("direct.7.dmPolicy", "disabled", heard(7, false, false))
		in("direct.7.allowFrom", []any{9}, heard(7, false, false))
		in("direct.7.requireTopic", true, heard(7, false, false))
		in("mediaMaxMb", 1, func(r *rig) error {
			text := r.unique()
			r.bots[i].push(said(7, false, text, `,"document":{"file_id":"x","file_name":"n.txt","mime_type":"text/plain","file_size":1500000}`))
			if body := r.asks(text); !strings.Contains(body, "too large") {
				return fmt.Errorf("asked with %s", body)
			}
			return nil
		})
		in("streaming.mode", "partial", func(r *rig) error {
			r.bots[i].push(said(7, false, "hold "+r.unique(), ""))
			take(r.t, r.asked, "the turn that is held")
			b := r.bots[i]
			shows := func(ok func() bool) {
				eventually(r.t, patience, func() error {
					b.mu.Lock()
					defer b.mu.Unlock()
					if !ok() {
						return fmt.Errorf("sent %v, edited %v", b.sent, b.edited)
					}
					return nil
				})
			}
			shows(func() bool { return b.sent["one "] == 1 })
			r.letGo <- struct{}{}
			shows(func() bool { return slices.Contains(b.edited, "one two") })
			return nil
		})
		cases[len(cases)-1].base = "off"
		// Posted to the gateway, with the secret, an update is heard.
		hook := func(url, secret, path string) func(*rig) error {
			return func(r *rig) error {
				for key, value := range map[string]string{"webhookUrl": url, "webhookSecret": secret} {
					if old := r.set(at+key, value); old != value {
						defer func() { r.set(at+key, old); r.apply(at + key) }()
						r.apply(at + key)
					}
				}
				b := r.bots[i]
				r.eventuallyAccount("telegram", name, func(s *wire.ChannelAccount) bool { return s != nil && s.Connected })
				eventually(r.t, patience, func() error {
					b.mu.Lock()
					defer b.mu.Unlock()
					if b.webhook != url || b.secret != secret {
						return fmt.Errorf("the webhook is %q, %q", b.webhook, b.secret)
					}
					return nil
				})
				text := r.unique()
				b.mu.Lock()
				id := b.next
				b.next++
				b.mu.Unlock()
				for _, try := range []struct {
					path, secret string
					status       int
				}{{path, secret + "x", 401}, {path, "", 401}, {path + "x", secret, 404}, {path, secret, 200}} {
					update := fmt.Sprintf(`{"update_id":%d,%s}`, id, said(7, false, text, ""))
					a, err := r.http("POST", try.path, update, "Authorization: ", "X-Telegram-Bot-Api-Secret-Token: "+try.secret)
					if err == nil && a.status != try.status {
						err = fmt.Errorf("%v: %d %s", try, a.status, a.body)
					}
					if err != nil {
						return err
					}
				}
				r.asks(text)
				return nil
			}
		}
		const url, secret = "https://bot.example/hook", "secret-of-a-webhook"
		path := []string{"/telegram-webhook", "/hooks/second"}[i]
		in("webhookUrl", url, hook(url, secret, path))
		in("webhookSecret", "another-secret-of-it", hook(url, "another-secret-of-it", path))
		cases[len(cases)-1].base = secret
		in("webhookPath", "/hooks/tg", hook(url, secret, "/hooks/tg"))
		for i := range cases { // the mention of a topic is the group's where the topic leaves it out
			if c := &cases[i]; strings.HasSuffix(c.key, "groups.*.requireMention") {
				c.told = []string{c.at, strings.Replace(c.at, ".requireMention", ".topics.5.requireMention", 1)}
			}
		}
		if i == 0 {
			channels, cases = cases, nil
		}
	}
	program := func(r *rig) error {
		return r.eventuallyAccount("fake", "fake", func(s *wire.ChannelAccount) bool { return s != nil && s.Self == "two" })
	}
	add("channels.*.kind", "channels.telegram.kind", "telegram", shows("config.get", `"kind":"telegram"`)) // the only one that it may have
	add("channels.*.command", "channels.fake.command", selfIs("two"), program)
	channels, cases = append(channels, cases[len(cases)-2:]...), cases[:len(cases)-2]
	add("channels.*.accounts.*.command", "channels.fake.accounts.fake.command", selfIs("two"), program)
	accounts, cases = cases, channels

	bind := func(key string, match object, see ...func(*rig) error) {
		add(key, "bindings", []any{bound("second", match)}, func(r *rig) error {
			for _, s := range see {
				if err := s(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	bind("bindings[].agentId", object{"accountId": "*"}, answers(0, false, true))
	bind("bindings[].match.channel", object{"channel": "fake", "accountId": "*"}, answers(0, false, false))
	bind("bindings[].match.accountId", object{"accountId": "fake"}, answers(0, false, false), answers(1, false, true))
	bind("bindings[].match.peer.kind", object{"peer": object{"kind": "group", "id": "-100"}}, answers(0, false, false), answers(0, true, true))
	bind("bindings[].match.peer.id", object{"peer": object{"kind": "direct", "id": "7"}}, answers(0, false, true), answers(0, true, false))
	add("messages.ackReaction", "messages.ackReaction", "👀", reacts("👀", "👀"))
	add("messages.ackReactionScope", "messages.ackReactionScope", "direct", reacts("", "👍"))
	add("session.dmScope", "session.dmScope", "main", func(r *rig) error {
		text := r.unique()
		r.bots[0].push(said(7, false, text, ""))
		r.asks(text)
		return r.shows("chat.history", object{"sessionKey": "main"}, text)
	})
	return cases, accounts
}

// reacts wants these emoji at a message in the group, and at one to the bot.
func reacts(group, direct string) func(*rig) error {
	return func(r *rig) error {
		b := r.bots[0]
		b.mu.Lock()
		b.reacted = nil
		b.mu.Unlock()
		for _, group := range []bool{true, false} {
			text := r.unique()
			b.push(said(7, group, text, ""))
			r.asks(text)
		}
		eventually(r.t, patience, func() error {
			b.mu.Lock()
			defer b.mu.Unlock()
			at := map[string]string{}
			for _, s := range b.reacted {
				chat, emoji, _ := strings.Cut(s, " ")
				at[chat] = emoji
			}
			for chat, want := range map[string]string{"-100": group, "7": direct} {
				if got := at[chat]; (want == "") != (got == "") || !strings.Contains(got, want) {
					return fmt.Errorf("chat %s: %q, want %q", chat, got, want)
				}
			}
			return nil
		})
		return nil
	}
}

// answers wants a message to be answered by the second agent, or not by it.
func answers(bot int, group, second bool) func(*rig) error {
	return func(r *rig) error {
		text := r.unique()
		r.bots[bot].push(said(7, group, text, ""))
		if body := r.asks(text); strings.Contains(body, "I am second.") != second {
			return fmt.Errorf("asked with %s", body)
		}
		return nil
	}
}

// unique is a text that nobody has said yet.
func (r *rig) unique() string {
	r.lines++
	return fmt.Sprintf("message number %d.", r.lines)
}

// asks waits for the model to be asked with a text, and is how it was.
func (r *rig) asks(text string) (body string) {
	r.t.Helper()
	eventually(r.t, patience, func() error {
		r.provider.mu.Lock()
		defer r.provider.mu.Unlock()
		for _, body = range r.provider.bodies {
			if strings.Contains(body, text) {
				return nil
			}
		}
		return fmt.Errorf("no model was asked with %q", text)
	})
	return body
}

// confirmed waits until everything that a bot was told has been judged.
func (r *rig) confirmed(bot int) {
	r.t.Helper()
	eventually(r.t, patience, func() error {
		b := r.bots[bot]
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.updates) > 0 {
			return fmt.Errorf("%d updates are not confirmed", len(b.updates))
		}
		return nil
	})
}

// account is how an account fares, nil when there is none.
func (r *rig) account(channel, id string) *wire.ChannelAccount {
	r.t.Helper()
	var raw wire.Raw
	var st struct {
		ChannelAccounts map[string][]wire.ChannelAccount
	}
	if err := r.c.Call(r.ctx, "channels.status", nil, &raw); err != nil {
		r.t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		r.t.Fatal(err)
	}
	for _, a := range st.ChannelAccounts[channel] {
		if a.AccountID == id {
			return &a
		}
	}
	return nil
}

func (r *rig) eventuallyAccount(channel, id string, ok func(*wire.ChannelAccount) bool) error {
	r.t.Helper()
	eventually(r.t, patience, func() error {
		if s := r.account(channel, id); !ok(s) {
			return fmt.Errorf("%s:%s: %+v", channel, id, s)
		}
		return nil
	})
	return nil
}
