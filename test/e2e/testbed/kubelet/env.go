package kubelet

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// expand replaces $(NAME) by its value and $$ by $, as kubelet does in commands,
// arguments and environment values. References to unknown names stay as they are.
func expand(text string, values map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		switch end := strings.IndexByte(text[i:], ')'); {
		case text[i+1] == '$':
			b.WriteByte('$')
			i++
		case text[i+1] == '(' && end > 0:
			name := text[i+2 : i+end]
			if value, ok := values[name]; ok {
				b.WriteString(value)
			} else {
				b.WriteString(text[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

// environment returns what container c of the Pod sees, in order, and the same as a map
// for expansion.
func (p *pod) environment(ctx context.Context, c corev1.Container) ([]string, map[string]string, error) {
	if len(c.EnvFrom) > 0 {
		return nil, nil, fmt.Errorf("container %s: envFrom is not supported by the testbed", c.Name)
	}
	host, port, err := net.SplitHostPort(p.agent.ServiceAddress)
	if err != nil {
		return nil, nil, err
	}
	list := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + p.hostname(),
		"KUBERNETES_SERVICE_HOST=" + host,
		"KUBERNETES_SERVICE_PORT=" + port,
	}
	values := map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
	for _, e := range c.Env {
		value := expand(e.Value, values)
		if e.ValueFrom != nil {
			if value, err = p.valueFrom(ctx, c, *e.ValueFrom); err != nil {
				return nil, nil, fmt.Errorf("container %s: env %s: %w", c.Name, e.Name, err)
			}
		}
		list = append(list, e.Name+"="+value)
		values[e.Name] = value
	}
	return list, values, nil
}

func (p *pod) hostname() string {
	if p.object().Spec.HostNetwork {
		return p.agent.Node.Name
	}
	return p.object().Name
}

func (p *pod) valueFrom(ctx context.Context, c corev1.Container, source corev1.EnvVarSource) (string, error) {
	switch {
	case source.FieldRef != nil:
		return p.field(source.FieldRef.FieldPath)
	case source.ResourceFieldRef != nil:
		return resourceField(c, *source.ResourceFieldRef)
	case source.ConfigMapKeyRef != nil:
		ref := source.ConfigMapKeyRef
		object, err := p.agent.Client.CoreV1().ConfigMaps(p.object().Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return object.Data[ref.Key], nil
	case source.SecretKeyRef != nil:
		ref := source.SecretKeyRef
		object, err := p.agent.Client.CoreV1().Secrets(p.object().Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return string(object.Data[ref.Key]), nil
	}
	return "", fmt.Errorf("this kind of source is not supported by the testbed")
}

// field returns what a downward API path stands for.
func (p *pod) field(path string) (string, error) {
	object := p.object()
	if key, ok := subscript(path, "metadata.labels"); ok {
		return object.Labels[key], nil
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return object.Annotations[key], nil
	}
	addresses, primary := p.addresses(), p.agent.Node.Primary()
	switch path {
	case "metadata.name":
		return object.Name, nil
	case "metadata.namespace":
		return object.Namespace, nil
	case "metadata.uid":
		return string(object.UID), nil
	case "spec.nodeName":
		return object.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return object.Spec.ServiceAccountName, nil
	case "status.podIP":
		return addresses.V4.String(), nil
	case "status.podIPs":
		return addresses.V4.String() + "," + addresses.V6.String(), nil
	case "status.hostIP":
		return primary.V4.String(), nil
	case "status.hostIPs":
		return primary.V4.String() + "," + primary.V6.String(), nil
	}
	return "", fmt.Errorf("field %s is not supported by the testbed", path)
}

// subscript returns x of base['x'].
func subscript(path, base string) (string, bool) {
	key, ok := strings.CutPrefix(path, base+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(key, "']")
}

func resourceField(c corev1.Container, ref corev1.ResourceFieldSelector) (string, error) {
	kind, name, _ := strings.Cut(ref.Resource, ".")
	list := c.Resources.Limits
	if kind == "requests" {
		list = c.Resources.Requests
	}
	quantity, ok := list[corev1.ResourceName(name)]
	if !ok {
		return "", fmt.Errorf("%s is not set", ref.Resource)
	}
	divisor := max(ref.Divisor.Value(), 1)
	return strconv.FormatInt((quantity.Value()+divisor-1)/divisor, 10), nil
}
