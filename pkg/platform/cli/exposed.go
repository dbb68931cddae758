package cli

import (
	"net"
	"strings"

	"github.com/spf13/cobra"
)

// insecureFlag allows to serve other machines although whoever reaches the
// address may do everything.
const insecureFlag = "insecure"

func (f *runFlags) addInsecure(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.insecure, insecureFlag, false, "listen where other machines can reach it, although there is neither TLS nor authentication")
}

// listener is an address that a command is about to listen on, and what has
// said so.
type listener struct{ from, addr string }

// checkExposed refuses addresses that other machines can reach.
func (f *runFlags) checkExposed(listeners ...listener) error {
	if f.insecure {
		return nil
	}
	var exposed []string
	for _, l := range listeners {
		if l.addr != "" && !onLoopback(l.addr) {
			exposed = append(exposed, l.from+" "+l.addr)
		}
	}
	if len(exposed) == 0 {
		return nil
	}
	return usagef("other machines can reach %s, and there is neither TLS nor authentication: use an address like 127.0.0.1:0, "+
		"behind a proxy that has both if need be, or say --%s", strings.Join(exposed, " and "), insecureFlag)
}

// onLoopback reports whether only this machine can reach an address. One that
// is not an address is for others to refuse.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
