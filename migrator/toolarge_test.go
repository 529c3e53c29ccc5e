package migrator

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"keyferry/migrator/joberr"
)

// TestTooLarge: a key that is larger than the target takes is named and stays; all others are
// moved, and it as well once the setting has been raised.
func TestTooLarge(t *testing.T) {
	ctx := context.Background()
	const small = 200
	for _, setting := range []string{"proto-max-bulk-len", "client-query-buffer-limit"} {
		f := newFerry(t, nil)
		src, dst := f.src.Client(), f.dst.Client()
		former := dst.ConfigGet(ctx, setting).Val()[setting]
		for i := range small {
			if err := src.Set(ctx, fmt.Sprint("k", i), "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := dst.ConfigSet(ctx, setting, "1048576").Err(); err != nil {
			t.Fatal(err)
		}
		if err := src.Do(ctx, "EVAL", "for i = 1, 400000 do redis.call('RPUSH', KEYS[1], 'element ' .. i .. ' of a list') end return 1", 1, "large").Err(); err != nil {
			t.Fatal(err)
		}
		_, err := f.pass(ctx, position{}, func(position) {})
		if !joberr.IsHopeless(err) || !strings.Contains(err.Error(), `"large" of database 0`) || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s: the pass ended with %v", setting, err)
		}
		if e := joberr.FromError(err); e.Code != "TOOLARGE" || !strings.Contains(advise(e), "raise that setting of the target") {
			t.Errorf("%s: %+v, advice %q", setting, e, advise(e))
		}
		if a, b := src.DBSize(ctx).Val(), dst.DBSize(ctx).Val(); a != 1 || b != small {
			t.Errorf("%s: %d keys at the source, %d at the target", setting, a, b)
		}
		if doubt := f.open.inDoubt(); len(doubt) > 0 {
			t.Errorf("%s: in doubt: %q", setting, doubt)
		}
		if err := dst.ConfigSet(ctx, setting, former).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.pass(ctx, position{}, func(position) {}); err != nil {
			t.Errorf("%s raised: %v", setting, err)
		}
		if n := dst.LLen(ctx, "large").Val(); n != 400000 || src.DBSize(ctx).Val() != 0 {
			t.Errorf("%s raised: %d elements at the target", setting, n)
		}
	}
}
