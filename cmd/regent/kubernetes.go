package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regent-ha/regent/internal/config"
	"github.com/regent-ha/regent/internal/dcs/kubernetes"
)

func kubernetesCommand() *cobra.Command {
	c := &cobra.Command{Use: "kubernetes", Short: "What concerns clusters in Kubernetes only"}
	c.AddCommand(migrateCommand())
	return c
}

func migrateCommand() *cobra.Command {
	m := migration{out: os.Stdout}
	c := &cobra.Command{
		Use: "migrate --to LAYOUT [OPTIONS] [FILE]", Short: "Move a live cluster to other objects: endpoints, configmaps or lease", Args: cobra.MaximumNArgs(1), DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			k, err := migrated(path, os.Environ())
			if err != nil {
				return err
			}
			return m.run(c.Context(), k)
		},
	}
	c.Flags().StringVar(&m.to, "to", "", "where to: endpoints, configmaps or lease")
	c.Flags().BoolVar(&m.dry, "dry-run", false, "show what would be done")
	c.Flags().BoolVar(&m.abort, "abort", false, "call off a move that the leader has not made")
	c.Flags().DurationVar(&m.timeout, "timeout", time.Minute, "how long the leader may take")
	return c
}

// migrated is the cluster of a configuration; neither a member's name nor its directory is needed.
func migrated(path string, environ []string) (kubernetes.Config, error) {
	path, err := configPath(path)
	if err != nil {
		return kubernetes.Config{}, err
	}
	file, err := config.Read(path, environ)
	if err != nil {
		return kubernetes.Config{}, err
	}
	doc := file.Document.Clone()
	for _, need := range [][]string{{"name"}, {"restapi", "listen"}, {"postgresql", "data_dir"}, {"postgresql", "listen"}} {
		makeUp(doc, need)
	}
	s, err := (&config.File{Document: doc}).Settings()
	if err != nil {
		return kubernetes.Config{}, err
	}
	if s.DCS.Kind != config.InKubernetes {
		return kubernetes.Config{}, errors.New("migrate: the configuration has no section kubernetes, so there is nothing to move")
	}
	k := kubernetesConfig(&s)
	k.Name, k.Log, k.Access.Bypass, k.Group = "", slog.New(slog.DiscardHandler), false, citusGroup(doc)
	return k, nil
}

// migration is one run of the command.
type migration struct {
	out        io.Writer
	to         string
	dry, abort bool
	timeout    time.Duration
}

func (m *migration) say(format string, args ...any) { fmt.Fprintf(m.out, format+"\n", args...) }

func (m *migration) run(ctx context.Context, k kubernetes.Config) error {
	to := kubernetes.Layout(m.to)
	if !m.abort && !slices.Contains(kubernetes.Layouts, to) {
		return fmt.Errorf("migrate: have --to %q, want one of %v", m.to, kubernetes.Layouts)
	}
	store, err := kubernetes.OpenMoving(ctx, k)
	if err != nil {
		return err
	}
	defer store.Close()
	if m.abort {
		if err := m.withdraw(ctx, store); err != nil {
			return err
		}
		m.say("Nobody is asked to move the cluster any more.")
		return nil
	}
	g, err := store.Migration(ctx, to)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	m.say("Cluster %s in namespace %s lives in layout %s. Leader: %s. Members: %s.", k.Scope, k.Namespace, g.Layout, g.Leader, strings.Join(g.Members, ", "))
	if g.Layout == to {
		m.say("It is there already.")
		m.manifest(k, to)
		return nil
	}
	if len(g.Strangers) > 0 {
		return fmt.Errorf("migrate: %s do not run Regent, or have not announced themselves: Patroni does not understand that a cluster moves, and one that finds the old lock would lead beside the new one; replace them first, nothing was done", strings.Join(g.Strangers, ", "))
	}
	m.say("The leader will, without a restart and without giving up its lock:")
	for i, step := range g.Steps {
		m.say("  %d. %s", i+1, step)
	}
	if m.dry {
		m.say("Nothing was done: --dry-run.")
		return nil
	}
	if err := store.AskToMove(ctx, to); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	m.say("Asked the leader; it moves with its next renewal. Waiting up to %s.", m.timeout)
	if err := m.wait(ctx, store, to); err != nil {
		return err
	}
	m.say("Moved: the cluster lives in layout %s. All members follow by themselves.", to)
	m.manifest(k, to)
	return nil
}

// wait looks until the cluster has moved; in the end the wish is taken back, so that nothing moves when nobody looks.
func (m *migration) wait(ctx context.Context, store *kubernetes.Moving, to kubernetes.Layout) error {
	limited, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	for {
		if g, err := store.Migration(limited, to); err == nil && g.Layout == to {
			return nil
		}
		select {
		case <-limited.Done():
			end := context.WithoutCancel(ctx)
			if err := m.withdraw(end, store); err != nil {
				return fmt.Errorf("migrate: the leader has not moved in time, and the request could not be taken back: %w; run it again, or with --abort", err)
			}
			if g, err := store.Migration(end, to); err == nil && g.Layout == to {
				return nil
			}
			return errors.New("migrate: the leader has not moved in time, and is not asked any more; its log says why: most often it may not create or patch the new objects (see \"What the agents may do\")")
		case <-time.After(300 * time.Millisecond): // the objects of two layouts are read; no watch shows both
		}
	}
}

func (m *migration) withdraw(ctx context.Context, store *kubernetes.Moving) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return store.AskToMove(ctx, "")
}

// manifest says what is left to do by hand.
func (m *migration) manifest(k kubernetes.Config, to kubernetes.Layout) {
	m.say("Now, in this order, and without haste but for the first:")
	step := 0
	next := func(format string, args ...any) { step++; m.say("  %d. "+format, append([]any{step}, args...)...) }
	if to == kubernetes.Endpoints {
		next("Service %s: remove its selector, if it has one; the leader writes the Endpoints of that name itself", k.Scope)
	} else {
		next("Service %s must select the leader's pod, or clients do not follow the next failover:", k.Scope)
		m.say("     kubectl -n %s patch service %s -p '{\"spec\":{\"selector\":%s}}'", k.Namespace, k.Scope, selectorJSON(k))
	}
	switch to {
	case kubernetes.Endpoints:
		next("set PATRONI_KUBERNETES_USE_ENDPOINTS=true (kubernetes.use_endpoints), and remove kubernetes.layout; with the chart: --set store=endpoints")
	case kubernetes.ConfigMaps:
		next("remove PATRONI_KUBERNETES_USE_ENDPOINTS and kubernetes.layout; with the chart: --set store=configmaps")
	case kubernetes.Lease:
		next("set kubernetes.layout: lease, and remove PATRONI_KUBERNETES_USE_ENDPOINTS; with the chart: --set store=lease")
	}
	next("roll the pods; until then each start warns that its configuration names another layout, and uses the right one")
	next("keep the old objects: their seal keeps whoever comes with an old configuration from leading")
}

// selectorJSON selects the leader's pod.
func selectorJSON(k kubernetes.Config) string {
	all := map[string]string{or(k.ScopeLabel, "cluster-name"): k.Scope, or(k.RoleLabel, "role"): or(k.LeaderValue, "primary")}
	for name, value := range k.Labels {
		all[name] = value
	}
	var pairs []string
	for name, value := range all {
		pairs = append(pairs, fmt.Sprintf("%q:%q", name, value))
	}
	slices.Sort(pairs)
	return "{" + strings.Join(pairs, ",") + "}"
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
