"""WebSockets, by the library `websockets` (extra `websocket`)."""
