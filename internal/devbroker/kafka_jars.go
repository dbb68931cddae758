package devbroker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the list of jars
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// KafkaVersion is the version of Apache Kafka that StartKafka runs. To change
// it, change kafkajars/pom.xml, let Maven copy the jars, and write their
// sha256sum into kafkajars/SHA256SUMS.
const KafkaVersion = "4.4.0"

// mavenCopy is pinned as the jars are.
const mavenCopy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

//go:embed kafkajars/pom.xml
var kafkaPOM []byte

//go:embed kafkajars/SHA256SUMS
var kafkaSums []byte

// sums maps file names to their SHA-256 in hex.
type sums map[string]string

// parseSums reads what sha256sum writes.
func parseSums(text []byte) (sums, error) {
	out := sums{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		if raw, err := hex.DecodeString(sum); !ok || err != nil || len(raw) != sha256.Size || name != filepath.Base(name) {
			return nil, fmt.Errorf("line %q is not <sha256>  <file name>", lines.Text())
		}
		out[name] = sum
	}
	return out, lines.Err()
}

// verify compares a folder with the sums: nothing may be missing, different
// or in excess.
func (s sums) verify(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var faults []error
	seen := map[string]bool{}
	for _, e := range entries {
		want, ok := s[e.Name()]
		if !ok {
			faults = append(faults, fmt.Errorf("%s is not on the list", e.Name()))
			continue
		}
		seen[e.Name()] = true
		got, err := fileSum(filepath.Join(dir, e.Name()))
		if err != nil {
			faults = append(faults, err)
		} else if got != want {
			faults = append(faults, fmt.Errorf("%s has SHA-256 %s, want %s", e.Name(), got, want))
		}
	}
	for name := range s {
		if !seen[name] {
			faults = append(faults, fmt.Errorf("%s is missing", name))
		}
	}
	return errors.Join(faults...)
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // a file of the cache
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// kafkaJars returns the verified jars in the user's cache, which Maven fills
// when they are not there. Several processes may do this at once: each
// downloads into a folder of its own, and the first to rename it wins.
func kafkaJars(ctx context.Context, logger *slog.Logger) ([]string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("kafka: where to keep the jars: %w", err)
	}
	want, err := parseSums(kafkaSums)
	if err != nil {
		return nil, fmt.Errorf("kafka: list of sums: %w", err)
	}
	dir := filepath.Join(cache, "rocketcycle", "kafka-"+KafkaVersion)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		logger.Info("downloading Apache Kafka", "version", KafkaVersion, "to", dir)
		if err := downloadJars(ctx, dir, want); err != nil {
			return nil, err
		}
	}
	if err := want.verify(dir); err != nil {
		return nil, fmt.Errorf("kafka: the jars in %s are not the expected ones; delete that folder to download them again: %w", dir, err)
	}
	jars := make([]string, 0, len(want))
	for name := range want {
		jars = append(jars, filepath.Join(dir, name))
	}
	slices.Sort(jars)
	return jars, nil
}

func downloadJars(ctx context.Context, dir string, want sums) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("kafka: Maven, which downloads the jars, is not installed (Debian: apt-get install maven): %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".download-")
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	pom, jars := filepath.Join(tmp, "pom.xml"), filepath.Join(tmp, "jars")
	if err := os.WriteFile(pom, kafkaPOM, 0o600); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	cmd := exec.CommandContext(ctx, mvn, "-q", "-B", "-f", pom, mavenCopy, "-DincludeScope=runtime", "-DoutputDirectory="+jars) //nolint:gosec // fixed arguments
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kafka: download with Maven: %w\n%s", errors.Join(ctx.Err(), err), tail(out, 20))
	}
	if err := want.verify(jars); err != nil {
		return fmt.Errorf("kafka: the downloaded jars are not the expected ones: %w", err)
	}
	if err := os.Rename(jars, dir); err != nil {
		if _, there := os.Stat(dir); there != nil {
			return fmt.Errorf("kafka: %w", err)
		}
	}
	return nil
}

// minJava is the oldest Java that runs the broker.
const minJava = 17

// findJava returns the java command: that of JAVA_HOME, else of PATH.
func findJava(ctx context.Context) (string, error) {
	const help = "Apache Kafka needs a Java of version 17 or later (Debian: apt-get install openjdk-17-jre-headless)"
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	path, err := exec.LookPath(java)
	if err != nil {
		return "", fmt.Errorf("kafka: %s: %w", help, err)
	}
	out, err := exec.CommandContext(ctx, path, "-version").CombinedOutput() //nolint:gosec // the user's Java
	if err != nil {
		return "", fmt.Errorf("kafka: %s -version: %w\n%s", path, err, tail(out, 5))
	}
	major, err := javaMajor(string(out))
	if err != nil {
		return "", fmt.Errorf("kafka: %s: %w", path, err)
	}
	if major < minJava {
		return "", fmt.Errorf("kafka: %s is version %d; %s", path, major, help)
	}
	return path, nil
}

var javaVersion = regexp.MustCompile(`version "(?:1\.)?(\d+)`)

// javaMajor reads the output of java -version.
func javaMajor(out string) (int, error) {
	m := javaVersion.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no version in %q", tail([]byte(out), 2))
	}
	return strconv.Atoi(m[1])
}

// tail returns the last n lines.
func tail(out []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
