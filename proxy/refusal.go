package proxy

import (
	"maps"

	"keyferry/internal/resp"
)

// refusalText says why a command is not served, one sentence each. Those that a gateway
// could serve and does not have no place here.
var refusalText = map[string]string{
	"acl|deluser":    oneUser,
	"acl|load":       oneUser,
	"acl|save":       oneUser,
	"acl|setuser":    oneUser,
	"save":           "it stops every server for as long as writing all its data takes, with all clients; BGSAVE does it beside",
	"debug":          "it changes or shows the inside of one server, and a client of the gateway does not know which; ask that server",
	"failover":       ownReplicas,
	"replicaof":      ownReplicas,
	"slaveof":        ownReplicas,
	"psync":          noReplicas,
	"replconf":       noReplicas,
	"sync":           noReplicas,
	"sentinel":       "the gateway is no sentinel; groups are watched and changed at its admin address",
	"migrate":        "keys are where the slot map says, and are moved by PROXY MIGRATE at the admin address",
	"restore-asking": "it is what the nodes of a Redis Cluster say to one another; use RESTORE",
	"module|load":    ownModules,
	"module|loadex":  ownModules,
	"module|unload":  ownModules,
	"pfselftest":     "it tests a server's own code and blocks it for that long; send it to a server",
	"script|debug":   "the debugger stops a whole server, with all its clients; send it to one that nobody uses",
	"shutdown":       "one client would end the service of all; stop the process with SIGTERM, which answers what is in flight first",
}

const (
	oneUser     = "the gateway has one user, default, whose password is the setting requirepass"
	ownReplicas = "each server's replication is its own; send it to that server"
	noReplicas  = "the gateway keeps no data that could be replicated; replicate the servers"
	ownModules  = "modules are loaded in servers; load it in each, and declare its commands in keyferry.toml (passthrough)"
)

// refusalOf says why a command is not served.
func refusalOf(cmd *resp.Command) string { return refusalNamed(cmd.Name) }

// refusalNamed: nobody should have to guess: the text says what to do instead, where there is something.
func refusalNamed(name string) string {
	text := "ERR '" + name + "' is not supported through the gateway"
	if why := refusalText[name]; why != "" {
		text += ": " + why
	}
	return text
}

// Refusals are all reasons, by the command's name.
func Refusals() map[string]string { return maps.Clone(refusalText) }

// unknownButRefused is for names that Redis itself knows in another role only.
//
// It saves an operator the question whether the gateway is too old to know it.
func unknownButRefused(name []byte) (text string, yes bool) {
	if len(name) == len("sentinel") && string(lower(name)) == "sentinel" {
		return refusalNamed("sentinel"), true
	}
	return "", false
}
