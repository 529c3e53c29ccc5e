package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// cluster answers the migration verbs of Redis 8.4 and Valkey 9. A gateway is not a node,
// so IMPORT needs to be told the group: … TO <group>.
func (s *Server) cluster(ctx context.Context, args []string) any {
	if len(args) == 0 {
		return errors.New("wrong number of arguments for 'cluster' command")
	}
	rest := args[1:]
	switch strings.ToUpper(args[0]) {
	case "MIGRATION":
		return s.clusterMigration(ctx, rest)
	case "MIGRATESLOTS":
		return s.migrateSlots(ctx, rest)
	case "GETSLOTMIGRATIONS":
		return s.proxy(ctx, []string{"MIGRATION", "LIST"})
	case "CANCELSLOTMIGRATIONS":
		return s.cancelAll(ctx)
	case "HELP":
		return []any{status("CLUSTER MIGRATION IMPORT <first> <last> [<first> <last> ...] TO <group> | STATUS [ID <id>|ALL] | CANCEL ID <id>|ALL"),
			status("CLUSTER MIGRATESLOTS SLOTSRANGE <first> <last> [<first> <last> ...] NODE <group>"),
			status("CLUSTER GETSLOTMIGRATIONS"), status("CLUSTER CANCELSLOTMIGRATIONS")}
	}
	//lint:ignore ST1005 Redis ends it so
	return fmt.Errorf("unknown subcommand '%.128s'. Try CLUSTER HELP.", args[0])
}

func (s *Server) clusterMigration(ctx context.Context, args []string) any {
	switch {
	case word(args, 0, "import") && len(args) >= 5 && word(args, len(args)-2, "to"):
		ranges, err := pairs(args[1 : len(args)-2])
		if err != nil {
			return err
		}
		return s.proxy(ctx, []string{"MIGRATE", ranges, "TO", args[len(args)-1]})
	case word(args, 0, "status") && (len(args) == 1 || len(args) == 2 && word(args, 1, "all")):
		return s.proxy(ctx, []string{"MIGRATION", "LIST"})
	case word(args, 0, "status") && len(args) == 3 && word(args, 1, "id"):
		return s.proxy(ctx, []string{"MIGRATION", "STATUS", args[2]})
	case word(args, 0, "cancel") && len(args) == 2 && word(args, 1, "all"):
		return s.cancelAll(ctx)
	case word(args, 0, "cancel") && len(args) == 3 && word(args, 1, "id"):
		return s.proxy(ctx, []string{"MIGRATION", "CANCEL", args[2]})
	}
	return errors.New("usage: CLUSTER MIGRATION IMPORT <first> <last> [...] TO <group> | STATUS [ID <id>|ALL] | CANCEL ID <id>|ALL")
}

func (s *Server) migrateSlots(ctx context.Context, args []string) any {
	n := len(args)
	if n < 5 || !word(args, 0, "slotsrange") || !word(args, n-2, "node") {
		return errors.New("usage: CLUSTER MIGRATESLOTS SLOTSRANGE <first> <last> [<first> <last> ...] NODE <group>")
	}
	ranges, err := pairs(args[1 : n-2])
	if err != nil {
		return err
	}
	if r := s.proxy(ctx, []string{"MIGRATE", ranges, "TO", args[n-1]}); isError(r) {
		return r
	}
	return status("OK")
}

// word reports whether args has the word at i, in any case.
func word(args []string, i int, w string) bool { return i < len(args) && strings.EqualFold(args[i], w) }

func isError(v any) bool { _, ok := v.(error); return ok }

// pairs makes "0 5 10 12" into "0-5,10-12".
func pairs(args []string) (string, error) {
	if len(args) == 0 || len(args)%2 != 0 {
		return "", errors.New("slot ranges come as pairs: <first> <last>")
	}
	var b strings.Builder
	for i := 0; i < len(args); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(args[i] + "-" + args[i+1])
	}
	return b.String(), nil
}

// cancelAll cancels what is open and says how many were.
func (s *Server) cancelAll(ctx context.Context) any {
	n := 0
	for _, j := range s.Manager.Jobs() {
		if j.Phase.Ended() {
			continue
		}
		if err := s.Manager.Cancel(ctx, j.ID); err != nil {
			return err
		}
		n++
	}
	return n
}
