package tool

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"openclaw/gateway/store"
	"openclaw/gateway/tool/fetch"
)

const webFetchName = "web_fetch"

func webTools() []*row {
	return []*row{tool(webFetchName, Network, "Get a page of the public web as text: HTML with headings, lists and links marked, or plain text, JSON, XML. No script runs, nothing is sent but the address; local and internal hosts are refused.", webFetch)}
}

type webFetchArgs struct {
	URL      string `arg:"url" required:"true" min:"1" max:"2048" doc:"The address, http or https."`
	MaxChars int    `arg:"maxChars" alias:"max_chars" min:"100" max:"10000000" doc:"How many characters to show at most; as many as is allowed when absent."`
}

type webFetched struct {
	URL         string `json:"url"`
	FinalURL    string `json:"finalUrl"`
	Status      int    `json:"status"`
	ContentType string `json:"contentType,omitempty"`
	Truncated   bool   `json:"truncated"`
}

func webFetch(ctx context.Context, c *call, a *webFetchArgs) (Result, error) {
	w := c.Config().Tools.Web.Fetch
	page, err := c.web.Get(ctx, a.URL, fetch.Limits{
		Chars: min(cmp.Or(a.MaxChars, w.MaxChars), w.MaxChars), Bytes: int64(w.MaxResponseBytes),
		Time: time.Duration(w.TimeoutSeconds) * time.Second, Redirects: w.MaxRedirects,
	})
	if err != nil {
		return Result{}, fmt.Errorf("not fetched: %w", err)
	}
	told := webFetched{a.URL, page.URL, page.Status, page.Type, page.Cut}
	return Result{Content: store.Text(page.String()), Details: details(told), IsError: !page.OK()}, nil
}
