package memnet

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBytesArriveInOrderAndThenTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Listen()
		defer l.Close()
		sent := make([]byte, 5*room+7)
		for i := range sent {
			sent[i] = byte(i / 3)
		}
		go func() {
			conn, err := l.DialContext(t.Context())
			if err == nil {
				_, err = conn.Write(sent)
				conn.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}()
		conn, err := l.Accept()
		require.NoError(t, err)
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, sent, got)
		_, err = conn.Write([]byte("nobody reads"))
		require.ErrorIs(t, err, io.ErrClosedPipe)
	})
}

func TestWriterWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := Pipe()
		done := make(chan error)
		go func() {
			_, err := near.Write(make([]byte, room+1))
			done <- err
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("there was no room")
		default:
		}
		_, err := far.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, <-done)
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := Pipe()
		_, err := near.Write(make([]byte, room))
		require.NoError(t, err)
		began := time.Now()
		require.NoError(t, near.SetDeadline(began.Add(time.Minute)))
		require.NoError(t, near.SetDeadline(began.Add(time.Second)))
		_, err = near.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_, err = near.Write(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))

		require.NoError(t, near.SetDeadline(time.Time{}))
		_, err = io.ReadFull(far, make([]byte, room)) // makes room again
		require.NoError(t, err)
		_, err = near.Write(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, near.SetReadDeadline(began), "in the past")
		_, err = near.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestClosedListener(t *testing.T) {
	l := Listen()
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	_, err := l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = l.DialContext(t.Context())
	require.ErrorIs(t, err, net.ErrClosed)

	nobody := Listen()
	defer nobody.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = nobody.DialContext(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestCloseEndsWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := Pipe()
		ended := make(chan error, 2)
		go func() { _, err := near.Read(make([]byte, 1)); ended <- err }()
		go func() { _, err := far.Read(make([]byte, 1)); ended <- err }()
		synctest.Wait()
		require.NoError(t, near.Close())
		errs := []error{<-ended, <-ended}
		require.ElementsMatch(t, []error{io.ErrClosedPipe, io.EOF}, errs)
	})
}
