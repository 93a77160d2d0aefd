package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"

	"openclaw/gateway/agent"
	"openclaw/gateway/store"
	"openclaw/wire"
)

// responses serves POST /v1/responses: one turn, in the shape of OpenResponses.
// Unless the request says store: false, the turn belongs to a session, and its
// response's id tells which, so that a later request can go on from there. The
// client's leaving ends the turn, as for chat completions.
func (g *Gateway) responses(w http.ResponseWriter, r *http.Request, who principal) {
	body, refused := readBody(r)
	if refused != nil {
		refused.write(w)
		return
	}
	var req responseRequest
	if err := wire.DecodeLoose(body, &req); err != nil {
		errorOf(wire.InvalidRequest("%s", err)).write(w)
		return
	}
	turn, err := req.turn()
	var from agent.Answer
	if err == nil {
		from, err = g.place(&turn, r, &req, who)
	}
	if err != nil {
		g.refusal(err).write(w)
		return
	}
	name := randomID(16)
	if req.stored() {
		turn.Answer = &store.Answer{ID: name, By: string(who), System: turn.System}
	}
	if req.Instructions != nil {
		turn.System = joinSystem(*req.Instructions, turn.System)
	}
	// Ends the turn when this handler returns early, for whatever reason.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := newResponseWriter(w, r, &req, name, cancel)
	turn.Accepted, turn.Observe = out.accepted, out.observe
	run, err := g.agents.Start(ctx, turn)
	if errors.Is(err, agent.ErrMovedOn) { // something else was said after that response: a way of its own
		turn.SessionKey, turn.After, turn.Messages = "", "", append(from.Fork(), turn.Messages...)
		run, err = g.agents.Start(ctx, turn)
	}
	if err != nil {
		g.refusal(err).write(w)
		return
	}
	if req.Stream {
		out.wait(run)
	}
	<-run.Done()
	out.finish(g, run.Result())
}

// place says which agent and conversation a request is for: those of the
// response that it goes on from, else as for chat completions. With store:
// false there is no session, and what went before is but read.
func (g *Gateway) place(t *agent.Turn, r *http.Request, req *responseRequest, who principal) (from agent.Answer, err error) {
	key, user := r.Header.Get("x-openclaw-session-key"), ""
	if !req.stored() && key != "" {
		return from, wire.InvalidRequest("store: false leaves nothing in a session, but a session key is given")
	}
	if req.User != nil && req.stored() {
		user = *req.User
	}
	if req.PreviousResponseID == nil {
		return from, g.address(t, r, req.Model, "openresponses-user", user)
	}
	id, err := agentNamed(r, req.Model)
	if err != nil {
		return from, err
	}
	sessionID, name := cutResponseID(*req.PreviousResponseID)
	from, ok := g.agents.Answer(sessionID, name, string(who))
	if !ok {
		e := refuse(http.StatusBadRequest, "invalid_request_error", "Previous response not found. Responses are kept for whoever asked for them, unless with store: false.")
		param := "previous_response_id"
		e.Code, e.Param = "previous_response_not_found", &param
		return from, e
	}
	key, t.AgentID, err = g.agents.CanonicalKey(cmp.Or(key, from.Key), id)
	if err != nil {
		return from, err
	} else if key != from.Key {
		return from, wire.InvalidRequest("previous_response_id: the response belongs to another session")
	}
	t.RunID = "http-" + randomID(16)
	t.System = joinSystem(from.System, t.System)
	if !req.stored() {
		t.Messages = append(from.Fork(), t.Messages...)
		return from, nil
	}
	t.SessionKey, t.After = from.Key, from.Record
	return from, nil
}

func joinSystem(a, b string) string { return strings.Trim(a+"\n\n"+b, "\n") }

// responseID is the id of the response whose answer has this name in a
// session, if it is in one.
func responseID(sessionID, name string) string {
	if sessionID == "" {
		return "resp_" + name
	}
	return "resp_" + sessionID + "_" + name
}

// cutResponseID undoes responseID; without a session nothing is found.
func cutResponseID(id string) (sessionID, name string) {
	id, _ = strings.CutPrefix(id, "resp_")
	if i := strings.LastIndexByte(id, '_'); i >= 0 {
		return id[:i], id[i+1:]
	}
	return "", id
}
