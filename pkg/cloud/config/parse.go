package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Parse checks data, the text of a cloud-config; name stands for the file in errors and
// warnings. The error is always an *Error with every problem that was found. Warnings are
// returned with and without an error.
func Parse(data []byte, name string) (*Config, []Warning, error) {
	root, problem := parseYAML(data)
	if problem != nil {
		return nil, nil, newError(name, data, []Problem{*problem})
	}
	var r report
	config := readConfig(root, &r)
	sortProblems(r.warnings)
	quoteLines(data, r.warnings)
	warnings := make([]Warning, 0, len(r.warnings))
	for _, p := range r.warnings {
		warnings = append(warnings, Warning{Name: name, Problem: p})
	}
	if len(r.problems) > 0 {
		return nil, warnings, newError(name, data, r.problems)
	}
	return &config, warnings, nil
}

// parseYAML returns the root value of the only document in data.
func parseYAML(data []byte) (*yaml.Node, *Problem) {
	if len(data) > MaxSize {
		return nil, &Problem{Message: fmt.Sprintf("is larger than %d bytes", MaxSize), Cure: "a cloud-config is small; is this the right file?"}
	}
	if p := findBinary(data); p != nil {
		return nil, p
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, &Problem{Message: "is empty", Cure: "a cloud-config begins with apiVersion: " + APIVersion}
	} else if err != nil {
		return nil, syntaxProblem(data, err)
	}
	if p := anotherObject(document.Content[0]); p != nil {
		return nil, p
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		return nil, &Problem{Line: second.Line, Column: second.Column,
			Message: "a second document begins here", Cure: "write everything into one"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxProblem(data, err)
	}
	return document.Content[0], nil
}

// findBinary reports the first thing in data that no text has. The YAML library would
// refuse it too, but without a line.
func findBinary(data []byte) *Problem {
	line, column := 1, 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return &Problem{Line: line, Column: column, Message: fmt.Sprintf("byte %#02x is not UTF-8", data[i]), Cure: "is this the right file?"}
		case r == '\n':
			line, column = line+1, 0
		case (r < ' ' && r != '\t' && r != '\r') || r == 0x7f:
			return &Problem{Line: line, Column: column, Message: fmt.Sprintf("control character %#02x", r), Cure: "is this the right file?"}
		}
		i, column = i+size, column+1
	}
	return nil
}
