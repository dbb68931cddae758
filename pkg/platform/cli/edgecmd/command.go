package edgecmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
)

// DefaultAddr is where a local edge serves gRPC.
const DefaultAddr = "127.0.0.1:11371"

// Config configures the commands.
type Config struct {
	// App is the name of the program. The variable APP_EDGE gives the address
	// of the edge.
	App string
	// Service is the service to call.
	Service protoreflect.ServiceDescriptor
	// DefaultAddr is the address without flag and variable. Default
	// DefaultAddr.
	DefaultAddr string
	// OpenAPI is the service's OpenAPI document; its summaries become help
	// texts. May be nil.
	OpenAPI []byte
	// Examples has arguments for the help text of an rpc, by its name, e.g.
	// {"CreatePlayer": "username=brock01"}. May be nil.
	Examples map[string]string
	// Getenv reads the environment. Default os.Getenv.
	Getenv func(string) string
	// Use and Short name and describe the command. Default: "edge".
	Use, Short string
	// Names has the names of commands, by name of the rpc, where they are not to
	// be made of it. May be nil.
	Names map[string]string
	// Explain makes the commands show how a request would run, instead of sending
	// it.
	Explain bool
	// Positional names the field that an argument without = gives. May be empty.
	Positional string

	// batch: there is a command for many requests at once, unless the service
	// has one of that name.
	batch bool
}

func (c Config) withDefaults() Config {
	if c.DefaultAddr == "" {
		c.DefaultAddr = DefaultAddr
	}
	if c.Use == "" {
		c.Use, c.Short, c.batch = "edge", "Send requests to an edge", true
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	return c
}

// env is the variable that gives the address.
func (c Config) env() string {
	return strings.ToUpper(strings.ReplaceAll(c.App, "-", "_")) + "_EDGE"
}

// options are the flags that all commands share.
type options struct {
	addr           string
	json           bool
	timeout        time.Duration
	idempotencyKey string
}

// New returns the command Config.Use with a command for every rpc of the
// service. Streaming rpcs are left out.
func New(cfg Config) *cobra.Command {
	cfg = cfg.withDefaults()
	opts := &options{}
	root := &cobra.Command{
		Use:   cfg.Use,
		Short: cfg.Short,
		Long: fmt.Sprintf(`Send requests to an edge over gRPC.

The arguments of a request are its fields, as field=value:

  username=brock01       a field; the name of a message around it may be left out
  currency.gold=5        dots lead into messages
  lhs=ID                 the id in a message
  tags=a tags=b          lists by repetition
  items='{"id":"i1"}'    messages in lists as JSON

Exit codes: 0 done, %d wrong usage, %d refused by the server, %d unavailable, %d anything else.`,
			ExitUsage, ExitRefused, ExitUnavailable, ExitOther),
		Args: cobra.ArbitraryArgs,
		RunE: Group,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&opts.addr, "edge", "", fmt.Sprintf("address of the edge, host:port (default: %s, else %s)", cfg.env(), cfg.DefaultAddr))
	flags.BoolVar(&opts.json, "json", false, "the answer, or the error of the edge, as JSON")
	flags.DurationVar(&opts.timeout, "timeout", 30*time.Second, "how long to wait for the answer")
	flags.StringVar(&opts.idempotencyKey, "idempotency-key", "",
		"the request takes effect once, however often it is sent with the same key, and is answered alike")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s; see %s --help", visible(err.Error()), cmd.CommandPath())
	})
	summaries := readSummaries(cfg.OpenAPI)
	methods := cfg.Service.Methods()
	for i := range methods.Len() {
		if m := methods.Get(i); !m.IsStreamingClient() && !m.IsStreamingServer() {
			addMethod(root, cfg, opts, m, summaries[string(cfg.Service.Name())+"_"+string(m.Name())])
		}
	}
	if cfg.batch && child(root, "batch") == nil {
		root.AddCommand(newBatch(cfg, opts))
	}
	return root
}

// Group is the RunE of a command that needs another word: it shows the help, or
// says which words there are. The Args of the command must be ArbitraryArgs.
func Group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 && (!cmd.HasParent() || !cmd.Parent().HasParent()) {
		return cmd.Help()
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion" {
			names = append(names, c.Name())
		}
	}
	if len(args) == 0 {
		return usagef("%s what? One of %s", cmd.CommandPath(), strings.Join(names, ", "))
	}
	return usagef("unknown command %q for %q%s; there are %s",
		args[0], cmd.CommandPath(), suggest.Hint(args[0], names), strings.Join(names, ", "))
}

// words splits the name of an rpc: CreatePlayer is create player.
func words(name string) (verb, object string) {
	var parts []string
	runes := []rune(name)
	start := 0
	for i := 1; i < len(runes); i++ {
		// A new word begins at a capital that follows, or is followed by, a small
		// letter: GetHTTPStatus is get http-status.
		if unicode.IsUpper(runes[i]) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			parts = append(parts, strings.ToLower(string(runes[start:i])))
			start = i
		}
	}
	parts = append(parts, strings.ToLower(string(runes[start:])))
	return parts[0], strings.Join(parts[1:], "-")
}

func addMethod(root *cobra.Command, cfg Config, opts *options, m protoreflect.MethodDescriptor, summary string) {
	verb, object := words(string(m.Name()))
	if given := cfg.Names[string(m.Name())]; given != "" {
		verb, object = given, ""
	}
	parent, name := root, verb
	if object != "" {
		if parent = child(root, verb); parent == nil {
			parent = &cobra.Command{Use: verb, Args: cobra.ArbitraryArgs, RunE: Group}
			root.AddCommand(parent)
		}
		name = object
		if parent.Short == "" {
			parent.Short = strings.ToUpper(verb[:1]) + verb[1:]
		} else {
			parent.Short += ","
		}
		parent.Short += " " + object
	}
	if summary == "" {
		summary = fmt.Sprintf("Call %s and show the %s", m.Name(), m.Output().Name())
	}
	cmd := child(parent, name)
	if cmd == nil {
		cmd = &cobra.Command{}
		parent.AddCommand(cmd)
	}
	cmd.Use = name + " [field=value ...]"
	if cfg.Positional != "" {
		cmd.Use = name + " " + strings.ToUpper(cfg.Positional)
	}
	cmd.Short = strings.TrimSuffix(summary, ".")
	cmd.Long = help(summary, m)
	if e := cfg.Examples[string(m.Name())]; e != "" {
		cmd.Example = fmt.Sprintf("  %s %s %s %s", cfg.App, cfg.Use, strings.TrimSpace(verb+" "+object), e)
	}
	var reading *readFlags
	if cfg.batch && verb == "read" && object != "" {
		reading = &readFlags{}
		reading.add(cmd)
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		return complete(m.Input(), args, word)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request, err := newRequest(m, positional(cfg.Positional, args))
		if err != nil {
			return &ExitError{Code: ExitUsage, Err: err}
		}
		target, err := address(cfg, opts)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		if cmd.Flags().Changed("idempotency-key") {
			ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", opts.idempotencyKey)
		}
		if cfg.Explain {
			ctx = metadata.AppendToOutgoingContext(ctx, "rkcy-explain", "true")
		}
		if reading != nil {
			own, err := reading.wanted()
			if err != nil {
				return err
			}
			if own {
				instance, err := reading.read(ctx, target, object, request, opts, cfg)
				if err != nil {
					return err
				}
				return show(cmd.OutOrStdout(), instance, opts)
			}
		}
		answer, err := call(ctx, target, m, request, opts, cfg)
		if plan, ok := planOf(err); ok {
			_, err := fmt.Fprint(cmd.OutOrStdout(), plan)
			return err
		}
		if err != nil {
			return err
		}
		return show(cmd.OutOrStdout(), answer, opts)
	}
}

// show writes an answer.
func show(out io.Writer, answer proto.Message, opts *options) error {
	write := writeText
	if opts.json {
		write = writeJSON
	}
	if err := write(out, answer); err != nil {
		return &ExitError{Code: ExitOther, Err: err}
	}
	return nil
}

// positional makes an argument that is not field=value one of the given field.
func positional(field string, args []string) []string {
	if field == "" || len(args) == 0 || strings.Contains(args[0], "=") {
		return args
	}
	return append([]string{field + "=" + args[0]}, args[1:]...)
}

func child(parent *cobra.Command, name string) *cobra.Command {
	for _, c := range parent.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// help lists the fields of a request.
func help(summary string, m protoreflect.MethodDescriptor) string {
	fields := listFields(m.Input())
	if len(fields) == 0 {
		return summary
	}
	width := 0
	for _, f := range fields {
		width = max(width, len(f.name))
	}
	var b strings.Builder
	b.WriteString(summary + "\n\nFields:\n")
	for _, f := range fields {
		fmt.Fprintf(&b, "  %-*s  %s\n", width, f.name, describe(f.field))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// complete suggests fields that are not given yet, and values where they can
// be listed.
func complete(md protoreflect.MessageDescriptor, args []string, word string) ([]string, cobra.ShellCompDirective) {
	none := cobra.ShellCompDirectiveNoFileComp
	given := map[string]bool{}
	for _, a := range args {
		name, _, _ := strings.Cut(a, "=")
		if p, err := resolve(md, name); err == nil && !p.last().IsList() {
			given[p.String()] = true
		}
	}
	if name, _, ok := strings.Cut(word, "="); ok {
		p, err := resolve(md, name)
		if err != nil {
			return nil, none
		}
		var values []string
		switch p.last().Kind() {
		case protoreflect.BoolKind:
			values = []string{"true", "false"}
		case protoreflect.EnumKind:
			values = enumNames(p.last().Enum())
		default:
		}
		var out []string
		for _, v := range values {
			if strings.HasPrefix(name+"="+v, word) {
				out = append(out, name+"="+v)
			}
		}
		return out, none
	}
	var out []string
	for _, f := range listFields(md) {
		candidate := strings.TrimSuffix(f.name, "KEY")
		if !f.field.IsMap() {
			candidate += "="
		}
		if !given[f.full] && strings.HasPrefix(candidate, word) {
			out = append(out, candidate+"\t"+describe(f.field))
		}
	}
	return out, none | cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveKeepOrder
}

// readSummaries takes the summaries out of an OpenAPI document, by operation.
func readSummaries(document []byte) map[string]string {
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	out := map[string]string{}
	if err := json.Unmarshal(document, &doc); err != nil {
		return out // help is a little shorter
	}
	for _, item := range doc.Paths {
		for _, raw := range item {
			var op struct {
				OperationID string
				Summary     string
			}
			if json.Unmarshal(raw, &op) == nil && op.OperationID != "" {
				out[op.OperationID] = op.Summary
			}
		}
	}
	return out
}

// CodeOf returns the exit code for an error: that of an ExitError in its chain,
// ExitOther for any other, 0 for nil.
func CodeOf(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*ExitError](err); ok {
		return e.Code
	}
	return ExitOther
}
