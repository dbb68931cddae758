package cli

import (
	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/control"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	adminv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/admin/v1"
)

// newTransactions returns the command that asks an edge about transactions.
func newTransactions(app node.Application) *cobra.Command {
	const id = "0192a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"
	cmd := edgecmd.New(edgecmd.Config{
		App: app.Name, Use: "txn", Short: "Look at transactions, wait for them, cancel them",
		Service: adminv1.File_rkcy_admin_v1_admin_proto.Services().ByName("TransactionService"), OpenAPI: adminv1.OpenAPI,
		DefaultAddr: platform.DefaultGRPCAddr, Positional: "id",
		Names: map[string]string{
			"GetTransaction": "status", "WaitTransaction": "wait", "CancelTransaction": "cancel", "RetryTransaction": "retry",
		},
		Examples: map[string]string{"GetTransaction": id, "WaitTransaction": id + " --timeout 1m", "CancelTransaction": id, "RetryTransaction": id},
	})
	cmd.AddCommand(newTransactionList(app),
		newBulk(app, "cancel-all", "Cancel every transaction that a filter names", true, (*control.Control).Cancel),
		newBulk(app, "retry-all", "Go on with every stuck saga that a filter names", false, (*control.Control).Retry))
	if app.Service != nil {
		cmd.AddCommand(edgecmd.New(edgecmd.Config{
			App: app.Name, Use: "explain", Short: "Show how a request would run: visits, holds, commit point", Explain: true,
			Service: app.Service, OpenAPI: app.OpenAPI, DefaultAddr: platform.DefaultGRPCAddr,
		}))
	}
	return cmd
}
