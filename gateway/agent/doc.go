// Package agent is what answers: it runs turns. A turn is what somebody says
// to an agent; its answer comes from a model, in pieces, and both become part
// of a session, which is a conversation kept in a transcript.
//
// # One turn
//
//	Start ── admit ── accept ─┬─ runTurn: begin ── ask ── end ── finish ──► next turn
//	          │         │     │            │        │      │       │
//	        bounds    user's  │          prompt,  model  answer  last event,
//	                  message │          history  calls  on disk Done
//	                  on disk └─ or waits in the session's mailbox
//
// Start (agents.go) checks the turn and reserves its place. accept
// (session.go) makes its messages durable and hands it to the session's actor,
// a goroutine that exists while the session has turns. runTurn (turn.go) shows
// a model the workspace's prompt (prompt.go) and as much of the conversation
// as fits (history.go), passes on what it says as Events, stores the answer
// and only then says that it is finished. Turns without a session key keep
// nothing: their messages are all there is. Chat commands (commands.go) are
// answered without a model.
//
// # Who guards what
//
// Agents.mu guards the lists of sessions and runs, for moments. session.mu
// guards one conversation and is held across writes to its transcript, so that
// a slow disk holds up its own session only. Agents.mu is taken first, or
// alone. A Run's fields belong to the goroutine that runs it until Done is
// closed. Events are told with no lock held.
//
// # Models
//
// models (model.go) calls the configured models in turn, with retries, through
// one client per protocol: openai.go, responses.go, anthropic.go and echo.go
// over sse.go and dial.go.
//
// Sessions are named by keys (key.go), asked about in query.go and usage.go
// and changed in change.go. The package knows neither sockets nor HTTP.
package agent
