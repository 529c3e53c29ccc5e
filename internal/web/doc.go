// Package web shows the gateway over HTTP: the dashboard, the JSON API with its stream of
// events, /metrics, /healthz and /readyz.
//
//	request ─► guard (Host, token, origin of actions) ─► page    a template, no data in it
//	                                                  ├► GET     from the Observer's snapshot
//	                                                  ├► events  what changed since the last one
//	                                                  └► POST    a PROXY verb, with a deadline
//
// Nothing on the way of a GET waits for a server, but /api/v1/key, which asks for one key
// and has a deadline.
package web
