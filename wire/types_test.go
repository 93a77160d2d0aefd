package wire

import (
	"bufio"
	"os"
	"reflect"
	"strings"
	"testing"
)

// method pairs the params of a method with its answers. (The table that runs is the gateway's.)
type method struct{ params, answer any }

func methodTypes() map[string]method {
	return map[string]method{
		"connect":            {ConnectParams{}, HelloOK{}},
		"health":             {HealthQuery{}, Health{}},
		"status":             {StatusQuery{}, Status{}},
		"system-presence":    {Empty{}, []Presence{}},
		"system-event":       {SystemEvent{}, OK{}},
		"last-heartbeat":     {Empty{}, (*Heartbeat)(nil)},
		"config.get":         {Empty{}, ConfigSnapshot{}},
		"agents.list":        {Empty{}, AgentsList{}},
		"agent":              {AgentRun{}, AgentFinal{}},
		"agent.wait":         {AgentWait{}, AgentWaited{}},
		"agent.identity.get": {AgentIdentityGet{}, AgentIdentity{}},
		"chat.send":          {ChatSend{}, ChatAck{}},
		"chat.history":       {ChatHistory{}, ChatHistoryPage{}},
		"chat.abort":         {ChatAbort{}, ChatAborted{}},
		"chat.inject":        {ChatInject{}, ChatInjected{}},
		"sessions.list":      {SessionsList{}, SessionsPage{}},
		"sessions.preview":   {SessionsPreview{}, SessionsPreviews{}},
		"sessions.resolve":   {SessionsResolve{}, SessionsResolved{}},
		"sessions.patch":     {SessionsPatch{}, SessionsPatched{}},
		"sessions.reset":     {SessionsReset{}, SessionsWereReset{}},
		"sessions.delete":    {SessionsDelete{}, SessionsDeleted{}},
		"sessions.compact":   {SessionsCompact{}, SessionsCompacted{}},
		"models.list":        {Empty{}, ModelsList{}},
		"logs.tail":          {LogsTail{}, LogsPage{}},
		"usage.status":       {Empty{}, UsageStatus{}},
		"usage.cost":         {UsageCostQuery{}, UsageCost{}},
	}
}

// eachLine calls f with the method and the JSON of each line of a file in testdata.
func eachLine(t *testing.T, file string, f func(t *testing.T, method string, text []byte)) {
	t.Helper()
	in, err := os.Open("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		name, text, _ := strings.Cut(lines.Text(), " ")
		t.Run(name, func(t *testing.T) { f(t, name, []byte(text)) })
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// What existing clients send is taken, and sent alike by our client.
func TestParamsOfExistingClients(t *testing.T) {
	types := methodTypes()
	seen := map[string]bool{}
	eachLine(t, "params.txt", func(t *testing.T, name string, text []byte) {
		seen[name] = true
		v := reflect.New(reflect.TypeOf(types[name].params)).Interface()
		if err := DecodeParams(name, text, v); err != nil {
			t.Fatal(err)
		}
		again, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		w := reflect.New(reflect.TypeOf(types[name].params)).Interface()
		if err := DecodeParams(name, again, w); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if !strings.Contains(string(text), "[]") && !reflect.DeepEqual(v, w) {
			t.Errorf("%s became %s", text, again)
		}
	})
	for name := range types {
		if !seen[name] {
			t.Errorf("%s: no params in testdata", name)
		}
	}
}

// Everything that an existing gateway answers is understood, and said by our types alike.
func TestAnswersOfExistingGateways(t *testing.T) {
	types := methodTypes()
	eachLine(t, "answers.txt", func(t *testing.T, name string, text []byte) {
		answer := types[name].answer
		if name == "agent" && status(text) == StatusAccepted {
			answer = AgentAck{}
		}
		v := reflect.New(reflect.TypeOf(answer))
		if err := Decode(text, v.Interface()); err != nil {
			t.Fatal(err)
		}
		again, err := Marshal(v.Elem().Interface())
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		if err := Decode(text, &want); err != nil {
			t.Fatal(err)
		}
		if err := Decode(again, &got); err != nil {
			t.Fatal(err)
		}
		if path := lost(want, got, name); path != "" {
			t.Errorf("%s is lost in %s", path, again)
		}
	})
}

// lost returns the path of what want has and got has not, "" if nothing. got may have more keys.
func lost(want, got any, path string) string {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for k := range w {
			if _, ok := g[k]; !ok && w[k] != false && w[k] != 0.0 {
				return path + "." + k
			}
			if p := lost(w[k], g[k], path+"."+k); p != "" {
				return p
			}
		}
		return ""
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) {
			return path
		}
		for i := range w {
			if p := lost(w[i], g[i], path+"[]"); p != "" {
				return p
			}
		}
		return ""
	}
	if got == nil && (want == false || want == 0.0) { // absent means the same
		return ""
	}
	if !reflect.DeepEqual(want, got) {
		return path
	}
	return ""
}

func TestEventPayloads(t *testing.T) {
	url := "u"
	for _, tc := range []struct {
		v    any
		want string
	}{
		{Challenge{Nonce: "n", Ts: 1}, `{"nonce":"n","ts":1}`},
		{Tick{Ts: 1}, `{"ts":1}`},
		{Shutdown{Reason: "SIGTERM received", GracePeriodMs: 30000}, `{"reason":"SIGTERM received","gracePeriodMs":30000}`},
		{AgentEvent{RunID: "r", Seq: 1, Stream: StreamAssistant, Ts: 2, Data: AssistantData{Text: "a<b", Delta: "b"}},
			`{"runId":"r","seq":1,"stream":"assistant","ts":2,"data":{"text":"a<b","delta":"b"}}`},
		{AgentEvent{RunID: "r", Seq: 2, Stream: StreamTool, Ts: 2, Data: ToolData{Phase: PhaseStart, Name: "exec", ToolCallID: "c", Args: Raw(`{"a":1}`)}},
			`{"runId":"r","seq":2,"stream":"tool","ts":2,"data":{"phase":"start","name":"exec","toolCallId":"c","args":{"a":1}}}`},
		{ChatEvent{RunID: "r", SessionKey: "s", Seq: 1, State: ChatStateFinal}, `{"runId":"r","sessionKey":"s","seq":1,"state":"final"}`},
		{AgentPayload{Text: "t"}, `{"text":"t","mediaUrl":null}`},
		{AgentPayload{MediaURL: &url}, `{"text":"","mediaUrl":"u"}`},
		{Raw(nil), "null"},
	} {
		got, err := Marshal(tc.v)
		if err != nil || string(got) != tc.want {
			t.Errorf("got  %s, %v\nwant %s", got, err, tc.want)
		}
	}
}

func TestCredentialsDoNotPrint(t *testing.T) {
	p := ConnectParams{Auth: &ConnectAuth{Token: "hunter2", Password: "hunter2"}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := InvalidRequest(format, *p.Auth).Message; strings.Contains(s, "hunter2") {
			t.Errorf("%s: %s", format, s)
		}
	}
}

func TestScopes(t *testing.T) {
	all := AllScopes()
	for _, tc := range []struct {
		have string
		may  string
	}{
		{"", ""},
		{"operator.read", " operator.read"},
		{"operator.write", " operator.read operator.write"},
		{"operator.approvals", " operator.approvals"},
		{"operator.pairing", " operator.pairing"},
		{"operator.admin", " operator.admin operator.read operator.write operator.approvals operator.pairing"},
		{"operator.Admin", ""},
	} {
		may := ""
		for _, need := range all {
			if (Scopes{Scope(tc.have)}).Allow(need) {
				may += " " + string(need)
			}
		}
		if may != tc.may {
			t.Errorf("%s may%s, want%s", tc.have, may, tc.may)
		}
	}
	if !(Scopes)(nil).Allow(ScopeNone) || (Scopes)(nil).Allow(ScopeRead) {
		t.Error("no scopes")
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		err       *Error
		code      Code
		retryable bool
		status    int
	}{
		{InvalidRequest("m"), "INVALID_REQUEST", false, 400},
		{Unavailable("m"), "UNAVAILABLE", true, 503},
		{AgentTimeout("m"), "AGENT_TIMEOUT", true, 504},
		{Errorf(CodeNotLinked, "m"), "NOT_LINKED", false, 503},
		{Errorf(CodeNotPaired, "m"), "NOT_PAIRED", false, 403},
		{Forbidden(ScopeRead), "FORBIDDEN", false, 403},
		{Errorf("NEW", "m"), "NEW", false, 500},
	} {
		if tc.err.Code != tc.code || tc.err.Retryable != tc.retryable || tc.err.Code.HTTPStatus() != tc.status {
			t.Errorf("got %+v, %d", tc.err, tc.err.Code.HTTPStatus())
		}
	}
	if e := Unavailable(""); e.Message == "" {
		t.Error("an error without a message is dropped by clients")
	}
}
