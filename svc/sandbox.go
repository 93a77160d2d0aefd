package svc

import (
	"context"

	"openclaw/gateway/tool/sandbox"
)

// sandboxCheck tries the walls on this host, as this user; inside a service's
// limits only if it is run there.
func sandboxCheck(_ context.Context, e *Env, _ *Args) error {
	layers := sandbox.Probe()
	err := layers.Err()
	if e.JSON {
		body := struct {
			OK     bool           `json:"ok"`
			Layers sandbox.Layers `json:"layers"`
		}{err == nil, layers}
		if err != nil {
			return &Error{Msg: err.Error(), Body: body}
		}
		return e.printJSON(body)
	}
	rows := make([][]string, len(layers))
	for i, l := range layers {
		rows[i] = []string{l.Name, map[bool]string{true: "on", false: "OFF"}[l.On], l.Detail}
	}
	if err := e.table([]string{"WALL", "STATE", "TRIED"}, rows); err != nil || layers.Err() == nil {
		return err
	}
	return &Error{Msg: "the sandbox is not available: tools that run programs are refused"}
}
