package migrator

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var rewriteKeys = flag.Bool("rewrite-keys", false, "rewrite testdata/status-keys.txt; read the difference before you commit it: somebody's script reads these")

// fill gives everything in a value that is not set already something, so that no omitempty
// leaves it out.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fill(f)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	}
}

// TestStatusKeys: the status of a job is one flat object, whatever structs it is made of here,
// and no key of it comes or goes by accident.
func TestStatusKeys(t *testing.T) {
	var s Status
	fill(reflect.ValueOf(&s).Elem())
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	keys := strings.Join(slices.Sorted(maps.Keys(got)), "\n") + "\n"
	const path = "testdata/status-keys.txt"
	if *rewriteKeys {
		if err := os.WriteFile(path, []byte(keys), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if keys != string(want) {
		t.Errorf("the keys are\n%swant\n%s", keys, want)
	}
}
