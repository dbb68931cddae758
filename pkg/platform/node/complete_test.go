package node_test

import (
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

// A platform file need not list the Concerns of unique fields.
func TestComplete(t *testing.T) {
	app := application()
	file := platform.Config{Name: "game", Concerns: []platform.Concern{
		{Name: "player", Partitions: 3, Retention: platform.Retention{Error: platform.Forever}}, {Name: "character"},
	}}
	got := app.Complete(file).Concerns
	if len(got) != 3 || got[2].Name != "player_username" || got[2].Partitions != 3 || got[2].Retention.Error != platform.Forever {
		t.Errorf("completed to %+v", got)
	}
	if len(file.Concerns) != 2 {
		t.Error("the file itself was changed")
	}
	if again := app.Complete(app.Complete(file)).Concerns; len(again) != 3 {
		t.Errorf("completed twice to %+v", again)
	}
	// What the file says of one counts; of an application that does not fit it,
	// something else tells.
	file.Concerns = append(file.Concerns, platform.Concern{Name: "player_username", Partitions: 7})
	if got := app.Complete(file).Concerns; len(got) != 3 || got[2].Partitions != 7 {
		t.Errorf("completed to %+v", got)
	}
	if got := app.Complete(platform.Config{Concerns: []platform.Concern{{Name: "character"}}}).Concerns; len(got) != 1 {
		t.Errorf("completed to %+v", got)
	}
	if err := app.Complete(file).Validate(); err != nil {
		t.Error(err)
	}
}

// Relations that lead nowhere, and mappings that would forget them, are found
// before anything runs.
func TestValidateRelations(t *testing.T) {
	player := node.Concern{Definition: rpgv1.NewPlayer(logic.Player{}), Mapping: rpgv1.PlayerMapping()}
	character := node.Concern{Definition: rpgv1.NewCharacter(logic.Character{}), Mapping: rpgv1.CharacterMapping()}
	forgetful := player
	forgetful.Mapping.Related = false
	clash := character
	clash.Definition.Name, clash.Mapping.Concern = "player_username", "player_username"
	for name, c := range map[string]struct {
		concerns []node.Concern
		want     string
	}{
		"well":         {[]node.Concern{player, character}, ""},
		"no parent":    {[]node.Concern{character}, `field player_id of Concern "character" refers to "player", which the application does not have`},
		"no column":    {[]node.Concern{forgetful, character}, `Concern "character" refers to "player", whose mapping has no column for that; set Related`},
		"twice":        {[]node.Concern{player, character, character}, `Concern "character" is there twice`},
		"name of ours": {[]node.Concern{player, clash}, `Concern "player_username" is there twice`},
	} {
		err := node.Application{Name: "game", Concerns: c.concerns}.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	var names []string
	for _, m := range application().Mappings() {
		names = append(names, m.Concern+" in "+m.Table)
	}
	if got := strings.Join(names, ", "); got != "player in player, player_username in player_username, character in character" {
		t.Errorf("mappings of %s", got)
	}
}
