package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// loaded parses what stands in channels, beside two agents.
func loaded(text string) (*Loaded, error) {
	return Parse("t", []byte("{agents:{list:[{id:'main'},{id:'dev'}]},channels:"+text+"}"), Source{})
}

// TestDoorsRefused: what would be more open here than with OpenClaw, or could
// be by a slip, is no configuration.
func TestDoorsRefused(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{`{telegram:{dmPolicy:'open'}}`, "channels.telegram.dmPolicy"},
		{`{telegram:{dmPolicy:'open',allowFrom:[7]}}`, `allowFrom: ["*"]`},
		{`{telegram:{dmPolicy:'open',allowFrom:['*'],accounts:{a:{botToken:'1:a',allowFrom:[7]}}}}`, "channels.telegram.accounts.a.dmPolicy"},
		{`{telegram:{allowFrom:[7],accounts:{a:{botToken:'1:a',allowFrom:['*']}}}}`, "must not hold *"},
		{`{telegram:{allowFrom:[],accounts:{a:{botToken:'1:a',allowFrom:['*']}}}}`, "must not hold *"},
		{`{telegram:{direct:{'7':{dmPolicy:'open'}}}}`, "channels.telegram.direct.7.dmPolicy"},
		{`{telegram:{direct:{'7':{tools:{deny:['exec']}}}}}`, "leave open what it closes"},
		{`{telegram:{direct:{'7':{topics:{'1':{enabled:false}}}}}}`, "leave open what it closes"},
		{`{telegram:{groups:{'*':{tools:{deny:['exec']}}}}}`, "agent with tools of its own"},
		{`{telegram:{groups:{'-1':{toolsBySender:{'7':{}}}}}}`, "leave open what it closes"},
		{`{telegram:{accounts:{a:{botToken:'1:a',groups:{'-1':{toolsBySender:{}}}}}}}`, "leave open what it closes"},
		{`{telegram:{contextVisibility:'allowlist'}}`, "leave open what it closes"},
		{`{telegram:{groups:{'-1':{topics:{'5':{agentId:'nobody'}}}}}}`, "names no agent"},
		{`{telegram:{groups:{'-1':{groupPolicy:'everybody'}}}}`, "must be open, allowlist or disabled"},
		{`{telegram:{groups:{'-1':{allowfrom:[7]}}}}`, "unknown key (did you mean allowFrom?)"},
		{`{telegram:{groups:{'-1':{topics:{'5':{requireTopic:true}}}}}}`, "unknown key"},
		{`{defaults:{groupPolicy:'shut'},telegram:{}}`, "must be open, allowlist or disabled"},
		{`{defaults:{contextVisibility:'allowlist_quote'},telegram:{}}`, "leave open what it closes"},
		{`{telegram:{actions:{reactions:true,sendMessage:false}}}`, "channels.telegram.actions"},
		{`{telegram:{accounts:{a:{botToken:'1:a',actions:{sendMessage:false}}}}}`, "take the tool message"},
		{`{telegram:{groupPolicy:'open',groups:{'-1':{}},accounts:{a:{botToken:'1:a'},b:{botToken:'2:a'}}}}`, "channels.telegram.accounts.a.groups"},
		{`{telegram:{groups:{'-1':{}},accounts:{a:{botToken:'1:a'},b:{botToken:'2:a',groupPolicy:'open'}}}}`, "would let all groups in"},
		{`{},session:{sendPolicy:{rules:[{action:'deny',match:{channel:'telegram'}}],default:'allow'}}`, "session.sendPolicy"},
		{`{},session:{sendPolicy:{default:'deny'}}`, "groups by groupPolicy"},
		{`{},tools:{exec:{security:'deny'}}`, "tools.exec.security"},
		{`{},tools:{toolsBySender:{'telegram:7':{deny:['exec']}}}`, "tools.toolsBySender"},
		{`{},tools:{message:{crossContext:{allowWithinProvider:false}}}`, "tools.message"},
		{`{},commands:{allowFrom:{'*':['*'],telegram:['7']}}`, "commands.allowFrom"},
	} {
		if _, err := loaded(c.text); err == nil || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v", c.text, err)
		}
	}
	for _, text := range []string{`{telegram:{contextVisibility:'all',groups:{'-1':{systemPrompt:'x',skills:[],errorCooldownMs:1}}}}`, `{defaults:{heartbeat:{}},telegram:{}}`,
		`{telegram:{actions:{sendMessage:true,reactions:false}}}`, `{},session:{sendPolicy:{rules:[{action:'allow'}],default:'allow'}}`, `{},tools:{toolsBySender:{}}`, `{},tools:{exec:{security:'allowlist'}}`,
		`{},tools:{message:{crossContext:{allowAcrossProviders:true,marker:{enabled:false}},broadcast:{enabled:false}}}`,
		`{},commands:{useAccessGroups:true,text:true,restart:false,ownerAllowFrom:['7'],allowFrom:{'*':['*']}}`} {
		if _, err := loaded(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestDoorsInherit: who is named nowhere gets what is said of all, in OpenClaw's order.
func TestDoorsInherit(t *testing.T) {
	const token = `botToken:'4242:abc',`
	one := func(text string) ChannelAccount {
		t.Helper()
		l, err := loaded(text)
		if err != nil {
			t.Fatal(err)
		}
		list := l.Config.ChannelAccounts()
		return list[len(list)-1]
	}
	a := one(`{telegram:{` + token + `allowFrom:['tg:1','Telegram:2',' 3 ',4,'*'],groupAllowFrom:['TG:5']}}`)
	if !slices.Equal(a.AllowFrom, []string{"1", "2", "3", "4", "*"}) || !slices.Equal(a.GroupAllowFrom, []string{"5"}) {
		t.Errorf("prefixes: %q %q", a.AllowFrom, a.GroupAllowFrom)
	}
	l, err := loaded(`{telegram:{` + token + `allowFrom:['@owner','-100'],groups:{'-1':{allowFrom:['Owner']}}}}`)
	if err != nil || len(l.Warnings) != 3 {
		t.Errorf("what is nobody's id: %v, %v", l.Warnings, err)
	}
	for policy, want := range map[string]int{"pairing": 1, "allowlist": 1, "open": 0, "disabled": 0} {
		if l, err := loaded(`{telegram:{` + token + `dmPolicy:'` + policy + `',allowFrom:['*']}}`); err != nil || len(l.Warnings) != want {
			t.Errorf("* with %s: %v, %v", policy, l.Warnings, err)
		}
	}
	if a = one(`{defaults:{groupPolicy:'disabled'},telegram:{` + token + `}}`); a.GroupPolicy != "disabled" {
		t.Errorf("channels.defaults: %s", a.GroupPolicy)
	}
	if a = one(`{defaults:{groupPolicy:'disabled'},telegram:{` + token + `groupPolicy:'open'}}`); a.GroupPolicy != "open" {
		t.Errorf("channels.defaults beside groupPolicy: %s", a.GroupPolicy)
	}
	a = one(`{telegram:{` + token + `groups:{'*':{requireMention:false,groupPolicy:'open'},'-1':{},'-2':{requireMention:true,allowFrom:[7],topics:{
		'*':{enabled:false,agentId:'dev',allowFrom:[8]},'5':{enabled:true},'6':{requireMention:false,allowFrom:[],groupPolicy:'disabled',agentId:'main'}}},
		'-3':{enabled:false,topics:{'5':{enabled:true}}}}}}`)
	for _, c := range []struct {
		chat, topic string
		want        string
	}{
		{"-9", "", "{true false open [] }"},
		{"-9", "5", "{true false open [] }"},
		{"-1", "", "{true false  [] }"}, // the mention, and nothing else, is taken from *
		{"-2", "", "{true true  [7] }"},
		{"-2", "4", "{false true  [8] dev}"},
		{"-2", "5", "{true true  [8] dev}"},
		{"-2", "6", "{false false disabled [] main}"},
		{"-3", "5", "{false false  [] }"},
	} {
		if at, known := a.In(c.chat, c.topic); !known || fmt.Sprint(at) != c.want {
			t.Errorf("%s topic %q: %v, want %s", c.chat, c.topic, at, c.want)
		}
	}
	if at, _ := a.In("-2", "6"); at.AllowFrom == nil {
		t.Error("an empty list of a topic was lost")
	}
	if a = one(`{telegram:{` + token + `groups:{'-1':{}},accounts:{b:{botToken:'5:a'}}}}`); len(a.Groups) != 1 {
		t.Error("the only account did not get the channel's groups")
	}
	if a = one(`{telegram:{groups:{'-1':{}},accounts:{a:{botToken:'5:a'},b:{botToken:'6:a'}}}}`); a.Groups != nil {
		t.Error("one bot's groups are another's")
	}
	for _, text := range []string{`{whatsapp:{`, `{mine:{kind:'process',command:['/bin/cat'],`} {
		if a = one(text + `groupPolicy:'open',groups:{'1@g.us':{}},accounts:{a:{},b:{}}}}`); len(a.Groups) != 1 || a.Account != "b" {
			t.Errorf("%s: with several accounts all groups are let in: %+v", text, a)
		}
	}
}

// TestStreaming: OpenClaw's word, object and boolean.
func TestStreaming(t *testing.T) {
	for value, want := range map[string]string{`'off'`: "off", `'block'`: "block", `true`: "partial", `false`: "off", `{mode:'progress',preview:{toolProgress:false}}`: "progress", `{}`: "partial"} {
		l, err := loaded(`{telegram:{botToken:'1:a',streaming:` + value + `,accounts:{a:{botToken:'2:a'},b:{botToken:'3:a',streaming:false}}}}`)
		if err != nil {
			t.Errorf("%s: %v", value, err)
			continue
		}
		list := l.Config.ChannelAccounts()
		if list[0].Streaming != want || list[1].Streaming != want || list[2].Streaming != "off" {
			t.Errorf("%s: %s, %s, %s", value, list[0].Streaming, list[1].Streaming, list[2].Streaming)
		}
	}
	for _, value := range []string{`'on'`, `1`, `{mode:true}`, `{mode:'fast'}`, `{speed:1}`} {
		if _, err := loaded(`{telegram:{botToken:'1:a',streaming:` + value + `}}`); err == nil {
			t.Errorf("%s is accepted", value)
		}
	}
}

// TestWebhookConfig: a door for updates has an address, a secret and a path of its own.
func TestWebhookConfig(t *testing.T) {
	const hook = `webhookUrl:'https://h/x',webhookSecret:'0123456789abcdef',`
	for text, says := range map[string]string{
		`webhookUrl:'http://h/x',webhookSecret:'0123456789abcdef'`:              "must be https",
		`webhookUrl:'https://u:p@h/x',webhookSecret:'0123456789abcdef'`:         "must be https",
		`webhookUrl:'https://h/x'`:                                              "without which anybody could post",
		`webhookUrl:'https://h/x',webhookSecret:'short'`:                        "16 to 256",
		`webhookUrl:'https://h/x',webhookSecret:'0123456789abcdef 0123'`:        "16 to 256",
		hook + `webhookPath:'hooks'`:                                            "must be a path",
		hook + `webhookPath:'/a/../v1'`:                                         "must be a path",
		hook + `webhookPath:'/'`:                                                "the gateway's own",
		hook + `webhookPath:'/v1/chat/completions'`:                             "the gateway's own",
		hook + `webhookPath:'/healthz'`:                                         "the gateway's own",
		hook + `accounts:{a:{botToken:'2:a'}}`:                                  "could not be told",
		hook + `accounts:{a:{botToken:'2:a',webhookPath:'/b'}}`:                 "",
		hook + `accounts:{a:{botToken:'2:a',webhookSecret:'abcdef0123456789'}}`: "",
		hook + `webhookHost:'127.0.0.1',webhookPort:8787`:                       "",
		`webhookSecret:'short'`:                                                 "", // of no use, and no harm
	} {
		_, err := loaded(`{telegram:{botToken:'1:a',` + text + `}}`)
		if (says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
