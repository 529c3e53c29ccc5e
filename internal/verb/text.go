package verb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Column is one column of a table: a head, and a format with the fields of an answer's
// JSON in braces, as {first}-{last}. {field:how} shows a field in another way: see cell.
type Column struct {
	Head   string `json:"head"`
	Format string `json:"format"`
}

// Fields are the fields of an answer that a column shows.
func (c Column) Fields() (names []string) {
	for _, part := range strings.Split(c.Format, "{")[1:] {
		name, _, _ := strings.Cut(part, "}")
		name, _, _ = strings.Cut(name, ":")
		names = append(names, name)
	}
	return names
}

func (c Column) text(record map[string]any) string {
	var b strings.Builder
	for i, part := range strings.Split(c.Format, "{") {
		if i == 0 {
			b.WriteString(part)
			continue
		}
		name, rest, _ := strings.Cut(part, "}")
		name, how, _ := strings.Cut(name, ":")
		b.WriteString(cell(record[name], how) + rest)
	}
	return b.String()
}

// cell is a value as a table shows it.
func cell(v any, how string) string {
	number := func() float64 {
		n, _ := v.(json.Number)
		f, _ := n.Float64()
		return f
	}
	switch how {
	case "known": // an estimate: -1 is none
		if number() < 0 {
			return "?"
		}
	case "whole":
		return strconv.FormatFloat(number(), 'f', 0, 64)
	case "percent":
		return strconv.FormatFloat(100*number(), 'f', 0, 64) + "%"
	case "quoted":
		return fmt.Sprintf("%q", orEmpty(v))
	case "count", "ranges":
		return slotsText(v, how)
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func orEmpty(v any) any {
	if v == nil {
		return []any{}
	}
	return v
}

// slotsText is a list of ranges in JSON, or how many slots there are in them.
func slotsText(v any, how string) string {
	list, _ := v.([]any)
	n, parts := int64(0), []string{}
	for _, x := range list {
		r, _ := x.(map[string]any)
		first, _ := r["first"].(json.Number)
		last, _ := r["last"].(json.Number)
		a, _ := first.Int64()
		b, _ := last.Int64()
		n += b - a + 1
		parts = append(parts, fmt.Sprintf("%d-%d", a, b))
	}
	if how == "count" {
		return strconv.FormatInt(n, 10)
	}
	return strings.Join(parts, ",")
}

// WriteText prints a gateway's answer for people: text is an answer in JSON, as a row with
// ShowTable is asked for, else reply is one of RESP.
func (c *Call) WriteText(w io.Writer, reply any) error {
	r := c.Row
	text, isText := reply.(string)
	switch {
	case r.Show == ShowTable && isText:
		return c.writeJSON(w, text)
	case r.Show == ShowFields && !isText:
		return writeFields(w, reply)
	case r.Show == ShowLines:
		list, ok := reply.([]any)
		if !ok {
			list = []any{reply}
		}
		for _, line := range list {
			fmt.Fprintln(w, line)
		}
		return nil
	}
	_, err := fmt.Fprintln(w, reply)
	return err
}

func (c *Call) writeJSON(w io.Writer, text string) error {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	var list []any
	if err := d.Decode(&list); err != nil {
		return fmt.Errorf("the gateway's answer to %s: %w", c.Row.Name, err)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	var head []string
	for _, col := range c.Row.Columns {
		head = append(head, col.Head)
	}
	for i, x := range list {
		record, ok := x.(map[string]any)
		if !ok { // a list of texts, as of the ids of jobs
			fmt.Fprintln(t, x)
			continue
		}
		if findings, ok := record["findings"]; ok {
			writeReport(t, record, findings)
			continue
		}
		if i == 0 {
			fmt.Fprintln(t, strings.Join(head, "\t"))
		}
		var cells []string
		for _, col := range c.Row.Columns {
			cells = append(cells, col.text(record))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	if len(list) == 0 && c.Role() == View { // what started no job says nothing
		fmt.Fprintln(t, strings.Join(head, "\t"))
	}
	return t.Flush()
}

// writeReport prints the plan of a job and what was found at both ends.
func writeReport(w io.Writer, plan map[string]any, findings any) {
	slots := ""
	if _, ok := plan["slots"]; ok {
		slots = fmt.Sprintf("%s slots (%s), ", cell(plan["slots"], "count"), cell(plan["slots"], "ranges"))
	}
	fmt.Fprintf(w, "%v → %v: %sabout %s keys, %s bytes, %s s\n", plan["source"], plan["target"], slots,
		cell(plan["estimated_keys"], "known"), cell(plan["estimated_bytes"], "known"), cell(plan["estimated_seconds"], "known"))
	list, _ := findings.([]any)
	for _, x := range list {
		f, _ := x.(map[string]any)
		fmt.Fprintf(w, "  %-8v %v, %v: %v\n", f["severity"], f["what"], f["where"], f["text"])
		if a, _ := f["advice"].(string); a != "" {
			fmt.Fprintf(w, "           → %s\n", a)
		}
	}
	if len(list) == 0 {
		fmt.Fprintln(w, "  no findings")
	}
}

// writeFields prints names and values; of a list of objects one block each.
func writeFields(w io.Writer, reply any) error {
	list, _ := reply.([]any)
	if len(list) > 0 {
		if _, nested := list[0].([]any); nested {
			for i, x := range list {
				if i > 0 {
					fmt.Fprintln(w)
				}
				if err := writeFields(w, x); err != nil {
					return err
				}
			}
			return nil
		}
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for i := 0; i+1 < len(list); i += 2 {
		fmt.Fprintf(t, "%v\t%v\n", list[i], flat(list[i+1]))
	}
	return t.Flush()
}

// flat is a value in one line; of a list of objects the names and values of each.
func flat(v any) string {
	list, ok := v.([]any)
	if !ok {
		return fmt.Sprint(v)
	}
	var parts []string
	for _, x := range list {
		fields, ok := x.([]any)
		if !ok {
			parts = append(parts, fmt.Sprint(x))
			continue
		}
		var pairs []string
		for i := 0; i+1 < len(fields); i += 2 {
			if text := fmt.Sprint(fields[i+1]); text != "" {
				pairs = append(pairs, fmt.Sprint(fields[i], " ", text))
			}
		}
		parts = append(parts, strings.Join(pairs, ", "))
	}
	return strings.Join(parts, "; ")
}
