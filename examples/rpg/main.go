// Command rpg is a small game on Rocketcycle: players, their characters, and
// trades between them.
package main

import (
	_ "embed"
	"os"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/examples/rpg/db"
	"github.com/rocketcycle/rocketcycle/examples/rpg/edge"
	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/examples/rpg/sim"
	"github.com/rocketcycle/rocketcycle/examples/rpg/store"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

//go:embed platform.yaml
var platformFile []byte

func main() { os.Exit(cli.Main(application())) }

func application() node.Application {
	app := node.Application{
		Name: "rpg",
		Concerns: []node.Concern{
			{Definition: rpgv1.NewPlayer(logic.Player{}), Mapping: rpgv1.PlayerMapping()},
			{Definition: rpgv1.NewCharacter(logic.Character{}), Mapping: store.CharacterMapping()},
		},
		ConfigConcerns: []concern.ConfigDefinition{rpgv1.NewLimitsConfig(logic.ValidateLimits)},
		Services:       edge.Services,
		Service:        rpgv1.File_rpg_v1_edge_proto.Services().ByName("RpgService"),
		OpenAPI:        rpgv1.OpenAPI,
		Examples: map[string]string{
			"CreatePlayer":    "username=brock01",
			"ReadPlayer":      "id=ID",
			"UpdatePlayer":    "id=ID active=true",
			"DeletePlayer":    "id=ID",
			"CreateCharacter": `player_id=ID fullname="Brock the Bold" currency.gold=1000`,
			"ReadCharacter":   "id=ID",
			"UpdateCharacter": `id=ID fullname="Brock the Wise"`,
			"DeleteCharacter": "id=ID",
			"FundCharacter":   "id=ID gold=100",
			"Trade":           "lhs=ID lhs.gold=5 rhs=ID rhs.faction_0=3",
		},
		Migrations:   db.Migrations(),
		PlatformFile: platformFile,
	}
	app.Commands = []*cobra.Command{sim.NewCommand(app.Mappings())}
	return app
}
