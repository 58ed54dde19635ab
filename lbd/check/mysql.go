package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// MySQL is good when the server greets; and when it says that it has too many connections (error 1040), which is a full server and not a dead
// one: a Remark. It does not stop there: with MySQL a client that hangs up on the greeting counts towards max_connect_errors, and the server would refuse
// this box after a hundred checks. So it asks to log in, and takes every answer.
type MySQL struct{}

// mysqlUser is whom it asks to log in as: a user that is locked, which the server refuses without a line in its log; where there is none, with an "Access denied".
const mysqlUser = "hostmesh-check"

const (
	mysqlTooMany   = 1040
	mysqlPacketMax = 64 << 10
)

// Probe implements Prober.
func (MySQL) Probe(ctx context.Context, t Target) error {
	c, err := dial(ctx, "tcp", t)
	if err != nil {
		return err
	}
	defer c.Close()
	return plainly(ctx, mysqlTalk(c))
}

func mysqlTalk(c net.Conn) error {
	b, seq, err := mysqlRead(c)
	if err != nil {
		return err
	}
	switch {
	case len(b) > 0 && b[0] == 0xff:
		code, text := mysqlError(b)
		if code == mysqlTooMany {
			return Remark("saturated: " + text)
		}
		return fmt.Errorf("%w: it greets with error %d: %s", ErrBad, code, text)
	case len(b) == 0 || b[0] != 10:
		return fmt.Errorf("%w: what it says is no greeting of MySQL's protocol 10", ErrBad)
	}
	// From here on the server has shown that it works: what follows is politeness.
	if err := mysqlWrite(c, seq+1, mysqlLogin()); err != nil {
		return nil
	}
	for range 3 {
		b, seq, err := mysqlRead(c)
		if err != nil || len(b) == 0 {
			return nil
		}
		switch b[0] {
		case 0xfe: // another way to prove who one is: an empty proof will do
			if mysqlWrite(c, seq+1, nil) != nil {
				return nil
			}
		case 0x00: // the user exists
			_ = mysqlWrite(c, 0, []byte{1}) // COM_QUIT
			return nil
		default:
			return nil
		}
	}
	return nil
}

// mysqlRead reads one packet: three bytes of length, one of its number, and so many bytes.
func mysqlRead(c net.Conn) ([]byte, byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, 0, err
	}
	n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if n > mysqlPacketMax {
		return nil, 0, fmt.Errorf("%w: a packet of %d bytes is none of MySQL's", ErrBad, n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	return b, head[3], err
}

func mysqlWrite(c net.Conn, seq byte, b []byte) error {
	_, err := c.Write(append([]byte{byte(len(b)), byte(len(b) >> 8), byte(len(b) >> 16), seq}, b...))
	return err
}

func mysqlError(b []byte) (code int, text string) {
	if len(b) < 3 {
		return 0, ""
	}
	code, b = int(binary.LittleEndian.Uint16(b[1:])), b[3:]
	if len(b) > 6 && b[0] == '#' { // the SQL state
		b = b[6:]
	}
	return code, printable(string(b))
}

// mysqlLogin is the answer to a greeting: HandshakeResponse41 of the client/server protocol, without a password.
func mysqlLogin() []byte {
	const (
		protocol41 = 1 << 9
		secure     = 1 << 15
		plugin     = 1 << 19
	)
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, uint32(protocol41|secure|plugin))
	_ = binary.Write(&b, binary.LittleEndian, uint32(mysqlPacketMax))
	b.WriteByte(45) // utf8mb4_general_ci
	b.Write(make([]byte, 23))
	b.WriteString(mysqlUser + "\x00")
	b.WriteByte(0) // no proof
	b.WriteString("mysql_native_password\x00")
	return b.Bytes()
}
