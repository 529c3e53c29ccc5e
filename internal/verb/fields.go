package verb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
)

// FromQuery makes what was given of a query's fields. Those named in except are not the verb's.
func (r *Row) FromQuery(q url.Values, except ...string) (given []Given) {
	skip := map[string]bool{}
	for _, name := range except {
		skip[name] = true
	}
	for name, values := range q {
		if skip[name] {
			continue
		}
		if a := r.arg(name); a != nil && a.Kind == Words {
			given = append(given, Given{name, values})
			continue
		}
		for _, v := range values {
			given = append(given, r.FromText(name, v)...)
		}
	}
	return given
}

// FromText makes what was given of a field's or a flag's text. That of an option with two
// values is as g1=2,g2=0.5.
func (r *Row) FromText(name, text string) (given []Given) {
	o := r.option(name)
	if o == nil || len(o.Values) != 2 {
		return []Given{{name, []string{text}}}
	}
	for pair := range strings.SplitSeq(text, ",") {
		k, v, two := strings.Cut(pair, "=")
		g := Given{name, []string{k}}
		if two {
			g.Values = append(g.Values, v)
		}
		given = append(given, g)
	}
	return given
}

// FromJSON makes what was given of a JSON object's fields: a text, a number, true for an
// option without a value, a list for an option that repeats or for words, an object for
// an option of two values. false and an empty body say nothing.
func (r *Row) FromJSON(body []byte) (given []Given, err error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	bad := &Error{r, `want a JSON object with a field for each argument and option, as {"id": "m1"}`, true}
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, bad
	}
	for d.More() { // by tokens: a field that is there twice must not get lost
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, bad
		}
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, bad
		}
		g, err := r.fromValue(name, v)
		if err != nil {
			return nil, err
		}
		given = append(given, g...)
	}
	if _, err := d.Token(); err != nil {
		return nil, bad
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad
	}
	return given, nil
}

func (r *Row) fromValue(name string, v any) ([]Given, error) {
	o := r.option(name)
	switch x := v.(type) {
	case bool:
		switch {
		case o == nil || len(o.Values) > 0 && o.Without == "":
			return []Given{{name, []string{fmt.Sprint(x)}}}, nil
		case !x:
			return nil, nil
		}
		return []Given{{name, nil}}, nil
	case nil:
		return []Given{{name, nil}}, nil
	case map[string]any:
		if o == nil || len(o.Values) != 2 {
			break
		}
		var out []Given
		for k, y := range x {
			text, ok := scalar(y)
			if !ok {
				return nil, &Error{r, name + ": want texts and numbers in the object", false}
			}
			out = append(out, Given{name, []string{k, text}})
		}
		return out, nil
	case []any:
		return r.fromList(name, x)
	default:
		if text, ok := scalar(v); ok {
			return r.FromText(name, text), nil
		}
	}
	return nil, &Error{r, name + ": want a text, a number or true", false}
}

// fromList is of an argument that takes all words, or of a field that is given many times.
func (r *Row) fromList(name string, list []any) ([]Given, error) {
	var texts []string
	for _, x := range list {
		text, ok := scalar(x)
		if !ok {
			return nil, &Error{r, name + ": want texts and numbers in the list", false}
		}
		texts = append(texts, text)
	}
	if a := r.arg(name); a != nil {
		return []Given{{name, texts}}, nil
	}
	var out []Given
	for _, t := range texts {
		out = append(out, Given{name, []string{t}})
	}
	return out, nil
}

func scalar(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, true
	case json.Number:
		return x.String(), true
	}
	return "", false
}
