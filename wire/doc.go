// Package wire is what travels between the gateway and its clients, and the
// connection it travels on. Server and client use the same code.
//
// # Messages
//
// A message is one WebSocket text message holding one JSON object: a request
// {type:"req"}, its response {type:"res"} or an event {type:"event"}. One strict
// reader ([Decode], [ParseRequest], [ParseInbound]) reads whatever a stranger
// sent; payload types carry the names of the methods and events they belong to;
// [Error] and [Scope] are the tables of codes and rights both ends agree on.
// Nothing here knows sessions, agents or configuration.
//
// # The connection
//
// A [Conn] carries whole messages under RFC 6455. It stands on
// golang.org/x/net/websocket, used for its handshakes and as a frame codec, and
// not for more: that package checks nearly nothing of what it reads. From the
// transport upwards there are
//
//   - the net.Conn, read by the one buffered reader Conn.in, which also sets the
//     deadlines and lets held answers go before it blocks (conn_read.go);
//   - the gate, the Conn as x/net sees it (gate.go): each header is judged in the
//     buffer first, and only then may x/net read exactly that frame;
//   - messages: fragments put together, UTF-8 checked byte by byte, control
//     frames answered (conn_read.go);
//   - the outgoing queue, bounded in bytes, written from one place (conn_write.go);
//   - the closing handshake (close.go), made by whoever holds the reader's role.
//
// CheckUpgrade and Accept make server connections, Dial makes client ones. Idle
// connections are cheap: one goroutine, the caller's, blocked in ReadMessage
// with half a kilobyte of buffer; no timer, no writer, no message buffer.
package wire
