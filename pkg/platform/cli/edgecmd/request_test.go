package edgecmd_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func TestRequests(t *testing.T) {
	game, things := rpg(), labService(t)
	s, l := serve(t, game), serve(t, things)
	for _, c := range []struct{ line, method, want string }{
		{"create player username=brock01", "CreatePlayer", `{"player":{"username":"brock01"}}`},
		{"create player player.username=brock01 active=true", "CreatePlayer", `{"player":{"username":"brock01","active":true}}`},
		{"create player limitsId=7", "CreatePlayer", `{"player":{"limits_id":"7"}}`},
		{"create player username=a=b=", "CreatePlayer", `{"player":{"username":"a=b="}}`},
		{"create player", "CreatePlayer", `{}`},
		{"read player id=p1", "ReadPlayer", `{"id":"p1"}`},
		{"create character player_id=p fullname=Brock currency.gold=1000", "CreateCharacter",
			`{"character":{"player_id":"p","fullname":"Brock","currency":{"gold":"1000"}}}`},
		{"create character gold=-5", "CreateCharacter", `{"character":{"currency":{"gold":"-5"}}}`},
		{`create character currency={"gold":5}`, "CreateCharacter", `{"character":{"currency":{"gold":"5"}}}`},
		{`create character currency={"gold":5} faction_0=6`, "CreateCharacter", `{"character":{"currency":{"gold":"5","faction_0":"6"}}}`},
		{"fund character id=c gold=100", "FundCharacter", `{"id":"c","currency":{"gold":"100"}}`},
		{"fund character id=c currency.gold=100", "FundCharacter", `{"id":"c","currency":{"gold":"100"}}`},
		{`fund character id=c items={"id":"i1"} items={"id":"i2"}`, "FundCharacter", `{"id":"c","items":[{"id":"i1"},{"id":"i2"}]}`},
		{`fund character id=c items=[{"id":"i1"},{"id":"i2"}]`, "FundCharacter", `{"id":"c","items":[{"id":"i1"},{"id":"i2"}]}`},
		{"trade lhs=A lhs.gold=5 rhs=B rhs.faction_0=3", "Trade",
			`{"lhs":{"character_id":"A","currency":{"gold":"5"}},"rhs":{"character_id":"B","currency":{"faction_0":"3"}}}`},
		{"trade lhs.character_id=A lhs.currency.gold=5", "Trade", `{"lhs":{"character_id":"A","currency":{"gold":"5"}}}`},
		{`trade lhs={"character_id":"A"} rhs={"characterId":"B"}`, "Trade", `{"lhs":{"character_id":"A"},"rhs":{"character_id":"B"}}`},
		{"trade lhs=A rhs=B mode=TRADE_MODE_SAGA", "Trade", `{"lhs":{"character_id":"A"},"rhs":{"character_id":"B"},"mode":"TRADE_MODE_SAGA"}`},
		{"trade lhs=A rhs=B mode=saga", "Trade", `{"lhs":{"character_id":"A"},"rhs":{"character_id":"B"},"mode":"TRADE_MODE_SAGA"}`},
		// The mask has what is given, not what identifies.
		{"update player id=p active=false", "UpdatePlayer", `{"player":{"id":"p"},"update_mask":"active"}`},
		{"update player id=p username=x limits_id=", "UpdatePlayer", `{"player":{"id":"p","username":"x"},"update_mask":"username,limitsId"}`},
		{"update player id=p", "UpdatePlayer", `{"player":{"id":"p"}}`},
		{"update player id=p username=x update_mask=active,limits_id", "UpdatePlayer", `{"player":{"id":"p","username":"x"},"update_mask":"active,limitsId"}`},
		{`update player player={"id":"p","username":"x","active":false}`, "UpdatePlayer", `{"player":{"id":"p","username":"x"},"update_mask":"username,active"}`},
		{`update player player={"id":"p","username":"x"} active=true`, "UpdatePlayer", `{"player":{"id":"p","username":"x","active":true},"update_mask":"username,active"}`},
		{"update character id=c currency.gold=5", "UpdateCharacter", `{"character":{"id":"c","currency":{"gold":"5"}},"update_mask":"currency.gold"}`},
		{`update character id=c currency={"gold":5}`, "UpdateCharacter", `{"character":{"id":"c","currency":{"gold":"5"}},"update_mask":"currency"}`},
		{`update character id=c items={"id":"i"} items={"id":"j"}`, "UpdateCharacter", `{"character":{"id":"c","items":[{"id":"i"},{"id":"j"}]},"update_mask":"items"}`},
		{`update character id=c items=[]`, "UpdateCharacter", `{"character":{"id":"c"},"update_mask":"items"}`},

		{"make thing color=GREEN colors=red colors=GREEN", "MakeThing", `{"thing":{"color":"GREEN","colors":["RED","GREEN"]},"update_mask":"color,colors"}`},
		{"make thing tags=a tags= tags=b", "MakeThing", `{"thing":{"tags":["a","","b"]},"update_mask":"tags"}`},
		{"make thing labels.color=red labels.a.b=c", "MakeThing", `{"thing":{"labels":{"a.b":"c","color":"red"}},"update_mask":"labels"}`},
		{`make thing spots.7={"x":1} spots.-1={}`, "MakeThing", `{"thing":{"spots":{"-1":{},"7":{"x":1}}},"update_mask":"spots"}`},
		{"make thing ratio=NaN small=-Infinity", "MakeThing", `{"thing":{"ratio":"NaN","small":"-Infinity"},"update_mask":"ratio,small"}`},
		{"make thing ratio=-1.5e-3 count=4294967295 big=18446744073709551615", "MakeThing",
			`{"thing":{"ratio":-0.0015,"count":4294967295,"big":"18446744073709551615"},"update_mask":"ratio,count,big"}`},
		{"make thing raw=AQI= on=TRUE", "MakeThing", `{"thing":{"raw":"AQI=","on":true},"update_mask":"raw,on"}`},
		{"make thing at=2030-01-02T15:04:05Z lasts=1.5s", "MakeThing", `{"thing":{"at":"2030-01-02T15:04:05Z","lasts":"1.500s"},"update_mask":"at,lasts"}`},
		{"make thing note=5 maybe=0", "MakeThing", `{"thing":{"note":"5","maybe":0},"update_mask":"note,maybe"}`},
		{"make thing note=true left=l", "MakeThing", `{"thing":{"note":"true","left":"l"},"update_mask":"note,left"}`},
		{"make thing place.x=1 y=2", "MakeThing", `{"thing":{"place":{"x":1,"y":2}},"update_mask":"place.x,place.y"}`},
		{"make name=a next.name=b next.next.name=c", "Make", `{"name":"a","next":{"name":"b","next":{"name":"c"}}}`},
		{"ping", "Ping", `{}`},
	} {
		server, service := s, game
		if things.Methods().ByName(protoName(c.method)) != nil {
			server, service = l, things
		}
		o := server.run(t, service, strings.Fields(c.line)...)
		method, asked := server.last()
		if o.code != 0 || o.err != "" || !strings.HasSuffix(method, "/"+c.method) || !sameJSON(t, asked, c.want) {
			t.Errorf("%s\n exit %d %s\n sent %s %s\n want %s", c.line, o.code, o.err, method, asked, c.want)
		}
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if a == "" {
		return false
	}
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Fatalf("%q: %v", a, err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return reflect.DeepEqual(x, y)
}

// Every fault is told, names the offender and says what is allowed; nothing is
// sent.
func TestFaults(t *testing.T) {
	const player = "id, username, active, limits_id"
	const trade = "lhs, lhs.character_id, lhs.currency.gold, lhs.currency.faction_0, lhs.currency.faction_1, lhs.currency.faction_2, lhs.items, " +
		"rhs, rhs.character_id, rhs.currency.gold, rhs.currency.faction_0, rhs.currency.faction_1, rhs.currency.faction_2, rhs.items, mode"
	const lhs = "lhs, lhs.character_id, lhs.currency.gold, lhs.currency.faction_0, lhs.currency.faction_1, lhs.currency.faction_2, lhs.items"
	game, things := rpg(), labService(t)
	s, l := serve(t, game), serve(t, things)
	for _, c := range []struct {
		lab  bool
		args []string
		want string
	}{
		{false, []string{"create", "player", "usernmae=x"}, `unknown field "usernmae" (did you mean "username"?); allowed are ` + player},
		{false, []string{"create", "player", "zzzzzzzzzz=x"}, `unknown field "zzzzzzzzzz"; allowed are ` + player},
		{false, []string{"create", "player", "username"}, `"username" is not of the form field=value; fields are ` + player},
		{false, []string{"create", "player", "=x"}, `"=x" is not of the form field=value; fields are ` + player},
		{false, []string{"create", "player", "active=maybe"}, `field "active": "maybe" is not allowed; allowed are true, false`},
		{false, []string{"create", "player", "username=a", "player.username=b"}, `field "player.username": player.username is given twice`},
		{false, []string{"create", "player", "username.x=a"}, `field "username.x": player.username is text, so nothing can follow it`},
		{false, []string{"create", "player", "username=\xff"}, `field "username": the value is not valid UTF-8`},
		{false, []string{"create", "player", "x=1", "active=2"}, `unknown field "x"; allowed are ` + player + "\n" + `field "active": "2" is not allowed; allowed are true, false`},
		{false, []string{"trade", "gold=5"}, `field "gold" could be lhs.currency.gold or rhs.currency.gold; say which`},
		{false, []string{"trade", "zzzzzzzzzz=5"}, `unknown field "zzzzzzzzzz"; allowed are ` + trade},
		{false, []string{"trade", "lhs.glod=5"}, `unknown field "lhs.glod" (did you mean "lhs.gold"?); allowed are ` + strings.TrimPrefix(lhs, "lhs, ")},
		{false, []string{"fund", "character", "gold=1.5"}, `field "gold": "1.5" is not a whole number between -9223372036854775808 and 9223372036854775807`},
		{false, []string{"fund", "character", "gold=9223372036854775808"}, `field "gold": "9223372036854775808" is not a whole number between -9223372036854775808 and 9223372036854775807`},
		{false, []string{"fund", "character", "gold="}, `field "gold": "" is not a whole number between -9223372036854775808 and 9223372036854775807`},
		{false, []string{"fund", "character", "gold=NaN"}, `field "gold": "NaN" is not a whole number between -9223372036854775808 and 9223372036854775807`},
		{false, []string{"fund", "character", "currency=5"}, `field "currency" is made of gold, faction_0, faction_1, faction_2; set one of these (currency.…=…), or all as JSON`},
		{false, []string{"fund", "character", `currency={"gold":1}`, "gold=2"}, `field "gold": currency.gold is given twice`},
		{false, []string{"fund", "character", "gold=2", `currency={"gold":1}`}, `field "currency": currency.gold is given twice`},
		{false, []string{"fund", "character", "items=i1"}, `field "items": "i1" is not JSON {id, description}: …`},
		{false, []string{"fund", "character", `items={"idd":"1"}`}, `field "items": "{\"idd\":\"1\"}" is not JSON {id, description}: …`},
		{true, []string{"make", "thing", "color=GREN"}, `field "color": "GREN" is not known (did you mean "GREEN"?); allowed are COLOR_UNSPECIFIED, RED, GREEN`},
		{true, []string{"make", "thing", "color=1"}, `field "color": "1" is not known; allowed are COLOR_UNSPECIFIED, RED, GREEN`},
		{true, []string{"make", "thing", "labels=red"}, `field "labels": a map is set by thing.labels.KEY=VALUE, where VALUE is text`},
		{true, []string{"make", "thing", "spots.x={}"}, `field "spots.x": key: "x" is not a whole number between -2147483648 and 2147483647`},
		{true, []string{"make", "thing", "labels.a=1", "labels.a=2"}, `field "labels.a": thing.labels.a is given twice`},
		{true, []string{"make", "thing", "left=l", "right=1"}, `field "right": thing.right excludes thing.left, which is given, too`},
		{true, []string{"make", "thing", "ratio=x"}, `field "ratio": "x" is not a number; allowed are numbers like 1.5 and -2e3, NaN, Infinity, -Infinity`},
		{true, []string{"make", "thing", "small=1e39"}, `field "small": "1e39" is too large for a number of 32 bits`},
		{true, []string{"make", "thing", "count=-1"}, `field "count": "-1" is not a whole number between 0 and 4294967295`},
		{true, []string{"make", "thing", "raw=%"}, `field "raw": "%" is not base64`},
		{true, []string{"make", "thing", "at=now"}, `field "at": "now" is not a time like 2030-01-02T15:04:05Z: …`},
		{true, []string{"make", "thing", "update_mask="}, `field "update_mask": "" is not names of fields, with commas between`},
		{true, []string{"ping", "x=1"}, `unknown field "x"; the command takes no fields`},
		{false, []string{"create"}, `my-app edge create what? One of character, player`},
		{false, []string{"create", "playr"}, `unknown command "playr" for "my-app edge create" (did you mean "player"?); there are character, player`},
		{false, []string{"crate"}, `unknown command "crate" for "my-app edge" (did you mean "create"?); there are batch, create, delete, fund, read, trade, update`},
		{false, []string{"create", "player", "--nope"}, `unknown flag: --nope; see my-app edge create player --help`},
		{false, []string{"create", "player", "--timeout", "0"}, `--timeout: 0s is not allowed; it is more than 0`},
	} {
		server, service := s, game
		if c.lab {
			server, service = l, things
		}
		o := server.run(t, service, c.args...)
		start, open := strings.CutSuffix(c.want, "…") // what follows is the library's
		if o.code != 2 || o.out != "" || !open && o.err != c.want || open && (!strings.HasPrefix(o.err, start) || o.err == start) {
			t.Errorf("%q: exit %d\n got %s\nwant %s\n out %s", c.args, o.code, o.err, c.want, o.out)
		}
		if method, _ := server.last(); method != "" {
			t.Errorf("%q: %s was called", c.args, method)
		}
	}
}

// FuzzArguments: no argument crashes the program, and no error carries
// anything to the terminal that it may act upon.
func FuzzArguments(f *testing.F) {
	for _, a := range []string{"username=x", "thing.labels.\x1b[31m=1", "x\x1b]0;t\a=1", "color=\x9b", "points={\x1b}", "at=\u009b31m", "place.x.\u202e=1", "labels.\u009b=1",
		"spots.1={\"x\":\"\u009b\"}", "thing={\"labels\":{\"a\":\"b\"}}", "note=\"", "update_mask=\u0085,", "left=\x7f", "next.next.next.name=1", "a.b.c.d=1", "."} {
		f.Add(a, "labels.\x1b=1")
	}
	things := labService(f)
	s := serve(f, things)
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.HasPrefix(a, "-") || strings.HasPrefix(b, "-") {
			t.Skip("a flag")
		}
		for _, args := range [][]string{{"make", "thing", a, b}, {"make", "thing", b, b, "--json"}, {"make", a, b}, {a, b}} {
			o := s.run(t, things, args...)
			if o.code != 0 && o.code != 2 {
				t.Errorf("%q: exit %d: %s", args, o.code, o.err)
			}
			for _, r := range o.err + o.out {
				if !unicode.IsPrint(r) && r != '\n' {
					t.Fatalf("%q: %q reaches the terminal: %q", args, r, o.err+o.out)
				}
			}
		}
	})
}
