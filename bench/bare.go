package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// BareWay is how a bare loop goes about its work.
type BareWay struct {
	Workers   int `json:"workers"`
	BatchKeys int `json:"batch_keys"`
	ScanCount int `json:"scan_count"`
}

// bareResult is what one bare loop did.
type bareResult struct {
	keys, bytes int64 // of DUMP payloads
	took        time.Duration
	loopCPU     time.Duration
}

// bareDrain moves the keys of database 0 from one server to another with no gateway, no
// locks, no TTLs and no care for errors: one connection runs SCAN, and each worker sends a
// batch as pipelined DUMPs, then as pipelined RESTOREs, then as one UNLINK. That is the
// least that a move by these three commands costs, and so the limit for any mover. It ends
// after most keys, or with the pass.
func bareDrain(ctx context.Context, source, target string, way BareWay, most int64) (bareResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	own, err := processCPU(os.Getpid())
	if err != nil {
		return bareResult{}, err
	}
	begin := time.Now()
	batches := make(chan [][]byte, 2*way.Workers)
	b := &bare{batches: batches, left: most}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(batches)
		if err := b.scan(ctx, source, way); err != nil {
			cancel(err)
		}
	})
	for range way.Workers {
		wg.Go(func() {
			if err := b.work(ctx, source, target); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	ownAfter, err := processCPU(os.Getpid())
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return bareResult{keys: b.keys.Load(), bytes: b.bytes.Load(), took: took, loopCPU: ownAfter - own}, err
}

type bare struct {
	batches     chan [][]byte
	left        int64 // keys that scan may still hand out
	keys, bytes atomic.Int64
}

// bareWire is a connection whose end comes with ctx's.
func bareWire(ctx context.Context, addr string) (*wire, func(), error) {
	conn, err := dial(ctx, addr, "", 0, dialTimeout)
	if err != nil {
		return nil, nil, err
	}
	conn.buf = make([]byte, 256<<10)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() { stop(); conn.Close() }, nil
}

// scan hands out batches of names until the pass is over.
func (b *bare) scan(ctx context.Context, source string, way BareWay) error {
	conn, end, err := bareWire(ctx, source)
	if err != nil {
		return err
	}
	defer end()
	var batch [][]byte
	var v reply
	give := func() bool {
		batch = batch[:min(int64(len(batch)), b.left)]
		b.left -= int64(len(batch))
		if len(batch) > 0 {
			select {
			case b.batches <- batch:
			case <-ctx.Done():
				return false
			}
		}
		batch = make([][]byte, 0, way.BatchKeys)
		return b.left > 0
	}
	for cursor := "0"; ; {
		if _, err := conn.Write(appendCommand(nil, "SCAN", cursor, "COUNT", fmt.Sprint(way.ScanCount))); err != nil {
			return err
		}
		if err := conn.await(&v); err != nil {
			return err
		}
		if v.kind != '*' || len(v.elems) != 2 {
			return fmt.Errorf("%w: SCAN", errProtocol)
		}
		cursor = string(v.elems[0].text)
		for _, name := range v.elems[1].elems {
			batch = append(batch, append([]byte(nil), name.text...))
			if len(batch) == way.BatchKeys && !give() {
				return nil
			}
		}
		if cursor == "0" {
			give()
			return nil
		}
	}
}

// await reads until v is there.
func (c *wire) await(v *reply) error {
	for {
		err := c.next(v)
		if !errors.Is(err, errNeedMore) {
			return err
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

func (b *bare) work(ctx context.Context, source, target string) error {
	src, end, err := bareWire(ctx, source)
	if err != nil {
		return err
	}
	defer end()
	dst, end, err := bareWire(ctx, target)
	if err != nil {
		return err
	}
	defer end()
	var out []byte
	for batch := range b.batches {
		if out, err = b.move(src, dst, batch, out); err != nil {
			return err
		}
	}
	return nil
}

// move moves one batch, and gives back out for the next.
func (b *bare) move(src, dst *wire, batch [][]byte, out []byte) ([]byte, error) {
	out = out[:0]
	for _, name := range batch {
		out = append(out, "*2\r\n$4\r\nDUMP\r\n"...)
		out = appendArg(out, name)
	}
	if _, err := src.Write(out); err != nil {
		return out, err
	}
	out = out[:0]
	restores := 0
	for _, name := range batch {
		payload, err := src.bulk()
		if err != nil {
			return out, err
		}
		if payload == nil {
			continue
		}
		out = append(out, "*4\r\n$7\r\nRESTORE\r\n"...)
		out = appendArg(out, name)
		out = append(out, "$1\r\n0\r\n"...)
		out = appendArg(out, payload)
		restores++
		b.bytes.Add(int64(len(payload)))
	}
	restored, err := restoreAll(dst, out, restores)
	if err != nil {
		return out, err
	}
	out = appendHeader(out[:0], '*', 1+len(batch))
	out = append(out, "$6\r\nUNLINK\r\n"...)
	for _, name := range batch {
		out = appendArg(out, name)
	}
	b.keys.Add(int64(restored))
	return out, roundTrip(src, out, 1)
}

// restoreAll sends n RESTOREs and returns how many restored a key. SCAN may show a key
// twice, and then the second finds it there.
func restoreAll(dst *wire, out []byte, n int) (restored int, err error) {
	if _, err := dst.Write(out); err != nil {
		return 0, err
	}
	for n > 0 {
		errorText, err := dst.skip()
		switch {
		case errors.Is(err, errNeedMore):
			if err := dst.fill(); err != nil {
				return restored, err
			}
			continue
		case err != nil:
			return restored, err
		case errorText == nil:
			restored++
		case !bytes.HasPrefix(errorText, []byte("BUSYKEY")):
			return restored, errors.New(string(errorText))
		}
		n--
	}
	return restored, nil
}

// bulk reads one bulk string, which is valid until the next read; nil is the null.
func (c *wire) bulk() ([]byte, error) {
	for {
		size, err := c.scan()
		if errors.Is(err, errNeedMore) {
			if err = c.fill(); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		frame := c.buf[c.r : c.r+size]
		c.r += size
		switch head, n, _ := line(frame); {
		case head[0] == '$' && len(frame) > n:
			return frame[n : len(frame)-2], nil
		case head[0] == '$':
			return nil, nil
		default:
			return nil, fmt.Errorf("%w: %q for a bulk string", errProtocol, head)
		}
	}
}
