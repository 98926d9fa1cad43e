package config

import (
	"reflect"
	"time"
)

// Schema returns the form of the cloud-config as a JSON schema (draft 7): every key, the type of its
// value, and no other key. It is made from the types that the decoder fills. What depends on a value
// itself, bounds and addresses for instance, is left to Parse.
func Schema() map[string]any {
	s := objectSchema(reflect.TypeFor[file]())
	keys := s["properties"].(map[string]any) //nolint:errcheck // made by objectSchema
	keys["apiVersion"] = map[string]any{"const": APIVersion}
	keys["kind"] = map[string]any{"const": Kind}
	return s
}

// durationPattern is what time.ParseDuration reads and Parse does not refuse for its sign.
const durationPattern = `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$`

// objectSchema returns the form of a mapping that is read into a struct. A key that is not needed may be
// there without a value.
func objectSchema(t reflect.Type) map[string]any {
	keys, required := map[string]any{}, []string{}
	for _, f := range fieldsOf(t) {
		s := valueSchema(t.Field(f.number).Type)
		if f.needed {
			required = append(required, f.key)
		} else {
			s = orNull(s)
		}
		keys[f.key] = s
	}
	s := map[string]any{"type": "object", "properties": keys, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// orNull returns a schema that also takes no value.
func orNull(s map[string]any) map[string]any {
	if name, ok := s["type"].(string); ok {
		s["type"] = []string{name, "null"}
	}
	if values, ok := s["enum"].([]any); ok {
		s["enum"] = append(values, nil)
	}
	return s
}

// valueSchema returns the form of a value as decoder.decodeValue reads it.
func valueSchema(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return map[string]any{"type": "string", "pattern": durationPattern}
	case reflect.TypeFor[ShrinkPolicy]():
		return map[string]any{"type": "string", "enum": []any{string(ShrinkRefuse), string(ShrinkReassign)}}
	case reflect.TypeFor[orTemplate[int]]():
		return map[string]any{"type": []string{"integer", "string"}}
	case reflect.TypeFor[orTemplate[string]]():
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return valueSchema(t.Elem())
	case reflect.Struct:
		return objectSchema(t)
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": valueSchema(t.Elem())}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": valueSchema(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	default:
		return map[string]any{"type": "string"}
	}
}
