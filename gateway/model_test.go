package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// modelConfig is the configuration of a gateway whose default agent asks a fakeModel.
const modelConfig = `{gateway:{auth:{token:"` + testToken + `"}},agents:{defaults:{model:{primary:"fake/m"}}},` +
	`models:{providers:{fake:{baseUrl:"http://127.0.0.1:1/v1",api:"openai-completions",models:[{id:"m"}]}}}}`

// fakeModel is a model provider over pipes. It streams «You said» and what the
// last message says; after the first words of a message with «hold» it waits
// until it is let go or its client leaves.
type fakeModel struct {
	*pipeListener
	asked chan string // bodies of requests
	hold  chan struct{}
	left  chan struct{} // a token for each client that left meanwhile
}

func newFakeModel(t testing.TB) *fakeModel {
	m := &fakeModel{pipeListener: newPipeListener(), asked: make(chan string, 100), hold: make(chan struct{}), left: make(chan struct{}, 100)}
	s := &http.Server{Handler: m}
	go s.Serve(m)
	t.Cleanup(func() { s.Close() })
	return m
}

func (m *fakeModel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m.asked <- string(body)
	var req struct {
		Messages []struct{ Content any }
	}
	if err := json.Unmarshal(body, &req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	chunk := func(text string) {
		fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", text)
		http.NewResponseController(w).Flush()
	}
	said := fmt.Sprint(req.Messages[len(req.Messages)-1].Content)
	chunk("You said ")
	if strings.Contains(said, "hold") {
		select {
		case <-m.hold:
		case <-r.Context().Done():
			m.left <- struct{}{}
			return
		}
	}
	chunk(said)
	io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
}

// withModel makes a gateway ask the model, whatever it dials.
func withModel(o Options, m *fakeModel) Options {
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) { return m.dial(ctx, network, addr) }
	return o
}
