// Command rkcy is the platform's own tool.
package main

import (
	"os"

	"github.com/rocketcycle/rocketcycle/pkg/platform/cli"
)

func main() { os.Exit(cli.Tool()) }
