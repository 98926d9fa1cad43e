package main

import (
	"encoding/binary"
	"net"
	"sync/atomic"
)

// What a TLS 1.3 record adds to what it carries: its header, the type of the content and
// the tag (RFC 8446 section 5.2).
const (
	recordHeader   = 5
	recordOverhead = recordHeader + 1 + 16
)

// pingFrame is the length of an HTTP/2 PING, or of the answer to one (RFC 9113 section 6.7).
const pingFrame = 9 + 8

// applicationData is the type of a record that is encrypted (RFC 8446 section 5.1).
const applicationData = 23

// records counts the TLS records of one direction of a connection.
type records struct {
	header [recordHeader]byte
	have   int // of the header
	left   int // of the record's content
}

// feed takes the next bytes of the connection. It returns how many bytes the records that
// begin in them have, and how many of those are records that carry nothing but one PING or
// two. Nothing else that gRPC sends is as short as the one or the other: a plan names a
// cluster, and a WINDOW_UPDATE has 13 bytes.
func (r *records) feed(data []byte) (all, pings int) {
	for len(data) > 0 {
		if r.left > 0 {
			n := min(r.left, len(data))
			r.left, data = r.left-n, data[n:]
			continue
		}
		n := copy(r.header[r.have:], data)
		r.have, data = r.have+n, data[n:]
		if r.have < recordHeader {
			break
		}
		r.have, r.left = 0, int(binary.BigEndian.Uint16(r.header[3:]))
		size := recordHeader + r.left
		all += size
		if carried := size - recordOverhead; r.header[0] == applicationData && (carried == pingFrame || carried == 2*pingFrame) {
			pings += size
		}
	}
	return all, pings
}

// received is what came in over the connections of one announcer.
type received struct{ all, pings atomic.Int64 }

// said is what came in beside keepalives.
func (r *received) said() int64 { return r.all.Load() - r.pings.Load() }

// metered counts what comes in over a connection.
type metered struct {
	net.Conn
	into    *received
	records records
}

// Read implements net.Conn. One goroutine reads a connection.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	all, pings := m.records.feed(p[:n])
	m.into.pings.Add(int64(pings))
	m.into.all.Add(int64(all))
	return n, err
}
