package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/regent-ha/regent/test/chaos/history"
)

// txn is a transaction on lists, sorted by list.
type txn struct {
	history.Txn
	reads   map[int][]int64 // what each list had, without what the transaction appended itself
	appends map[int][]int64
}

func (t *txn) done() bool   { return t.Outcome == history.Done }
func (t *txn) writes() bool { return len(t.appends) > 0 }

// String is a transaction's line in the history, for people.
func (t *txn) String() string {
	var steps []string
	for _, s := range t.Steps {
		if s.Append != 0 {
			steps = append(steps, fmt.Sprintf("append %d to %d", s.Append, s.Key))
		} else {
			steps = append(steps, fmt.Sprintf("read %v of %d", s.Found, s.Key))
		}
	}
	return fmt.Sprintf("(client %d, %s on timeline %d, %s to %s, %s: %s)", t.Client, t.Member, t.Timeline, t.Sent, t.Ended, t.Outcome, strings.Join(steps, ", "))
}

// lists is all transactions of a run with what they add up to.
type lists struct {
	txns    []*txn
	authors map[int64]*txn
	left    map[int][]int64 // in the end, on the leader; nil: nobody says
	kept    map[int64]bool  // what is in them
}

// listsOf sorts the transactions and asks of each one alone whether it makes sense.
func listsOf(h history.History, c *Check) *lists {
	l := &lists{authors: map[int64]*txn{}, kept: map[int64]bool{}}
	if h.End != nil {
		if end, ok := h.End.Members[h.End.Leader]; ok {
			l.left = end.Lists
		}
	}
	for _, t := range h.Txns {
		x := &txn{Txn: t, reads: map[int][]int64{}, appends: map[int][]int64{}}
		l.txns = append(l.txns, x)
		for _, s := range t.Steps {
			if s.Append == 0 {
				continue
			}
			if other := l.authors[s.Append]; other != nil {
				c.tell("value %d was appended twice: %s and %s", s.Append, other, x)
			}
			l.authors[s.Append] = x
		}
	}
	for _, t := range l.txns {
		if t.Outcome == history.Refused {
			t.sort(&Check{}) // what it read was promised nothing
		} else {
			t.sort(c)
		}
	}
	for _, t := range l.txns {
		if t.Outcome == history.Refused {
			continue
		}
		for _, key := range sortedKeys(t.reads) {
			l.sane(key, t.reads[key], t.String(), c)
		}
	}
	for _, key := range sortedKeys(l.left) {
		l.sane(key, l.left[key], "the end", c)
		for _, v := range l.left[key] {
			l.kept[v] = true
		}
	}
	return l
}

// sort puts a transaction's steps under their lists: it sees its own appends, and otherwise each list as it was when it began.
func (t *txn) sort(c *Check) {
	for _, s := range t.Steps {
		if s.Append != 0 {
			t.appends[s.Key] = append(t.appends[s.Key], s.Append)
			continue
		}
		own := t.appends[s.Key]
		from := len(s.Found) - len(own)
		if from < 0 || !slices.Equal(s.Found[from:], own) {
			c.tell("internal: a transaction does not see what it has appended itself: %s", t)
			continue
		}
		before, again := t.reads[s.Key]
		if again && !slices.Equal(before, s.Found[:from]) {
			c.tell("internal: a transaction reads list %d twice, and differently: %s", s.Key, t)
		}
		t.reads[s.Key] = s.Found[:from]
	}
}

// sane asks whether what was read of a list is there rightly: no value twice, of nobody, of a refused transaction (G1a), of another list, or without what its
// transaction appended to the list before and after it (G1b).
func (l *lists) sane(key int, found []int64, reader string, c *Check) {
	seen := map[int64]bool{}
	for i, v := range found {
		author := l.authors[v]
		switch {
		case seen[v]:
			c.tell("value %d is twice in list %d: %s", v, key, reader)
		case author == nil:
			c.tell("value %d in list %d, which nobody has appended: %s", v, key, reader)
		case author.Outcome == history.Refused:
			c.tell("G1a: value %d in list %d is of a refused transaction: %s by %s", v, key, author, reader)
		default:
			all := author.appends[key]
			if at := slices.Index(all, v); at < 0 || i < at || !prefix(all, found[i-at:]) {
				c.tell("G1b: of what a transaction has appended to list %d only a part is there, or scattered: %s by %s", key, author, reader)
			}
		}
		seen[v] = true
	}
}

// prefix says whether a list begins with another one.
func prefix(begin, all []int64) bool {
	return len(begin) <= len(all) && slices.Equal(begin, all[:len(begin)])
}

// serializable asks whether the transactions on lists have an order that explains all they have read and does not contradict true time: those of each term
// alone, with what was lost later, and over all terms those that agree with what is left in the end. It infers which came before which as Elle does: a list
// shows the order of its appends.
func serializable(h history.History) Check {
	c := Check{Name: "serializable", Asks: "transactions on lists have an order that explains all they read and does not contradict true time: within each term, and over all terms those of what is left"}
	l := listsOf(h, &c)
	type key struct {
		member   string
		timeline uint32
	}
	terms := map[key][]*txn{}
	var survivors []*txn
	refused, gone, stale, replicas, oldest := 0, 0, 0, 0, history.Time(0)
	for _, t := range l.txns {
		if t.Outcome == history.Refused {
			refused++
			continue
		}
		if !t.Replica {
			k := key{t.Member, t.Timeline}
			terms[k] = append(terms[k], t)
		}
		if l.left == nil {
			continue
		}
		agrees, keeps := l.agrees(t, &c), l.keeps(t, &c)
		switch {
		case t.Replica:
			replicas++
		case agrees && keeps && (t.done() || t.writes()):
			survivors = append(survivors, t)
		}
		if t.done() && !t.writes() && !l.whole(t) {
			gone++
		}
	}
	for _, t := range l.txns {
		if t.Replica && t.done() {
			if late := l.behind(t); late > 0 {
				stale++
				oldest = max(oldest, late)
			}
		}
	}
	keys := make([]key, 0, len(terms))
	for k := range terms {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.timeline, b.timeline), cmp.Compare(a.member, b.member))
	})
	for _, k := range keys {
		ordered(fmt.Sprintf("timeline %d of %s", k.timeline, k.member), terms[k], nil, &c)
	}
	if l.left != nil {
		ordered("all terms", survivors, l.left, &c)
	}
	c.Facts = fmt.Sprintf("%d transactions in %d terms, %d of them refused; %d agree with what is left; %d only read what was gone later; %d of %d reads of replicas lacked what had been acknowledged before, by up to %s",
		len(l.txns), len(keys), refused, len(survivors), gone, stale, replicas, oldest)
	return c
}

// agrees says whether what a transaction has read is a beginning of what is left, but for values that are gone at its end. What it has read in another order is
// against the rule in any mode, and so is that it has appended what is left after reading what is gone.
func (l *lists) agrees(t *txn, c *Check) bool {
	agrees := true
	for _, key := range sortedKeys(t.reads) {
		found := t.reads[key]
		if prefix(found, l.left[key]) {
			continue
		}
		agrees = false
		n := slices.IndexFunc(found, func(v int64) bool { return !l.kept[v] })
		if n < 0 || !prefix(found[:n], l.left[key]) || slices.ContainsFunc(found[n:], func(v int64) bool { return l.kept[v] }) {
			c.tell("list %d was read as %v, and is %v in the end: %s", key, found, l.left[key], t)
			continue
		}
		for _, own := range t.appends {
			if slices.ContainsFunc(own, func(v int64) bool { return l.kept[v] }) {
				c.tell("a transaction is left although what it had read of list %d is gone: %s", key, t)
				return false
			}
		}
	}
	return agrees
}

// keeps says whether all is left that a transaction has appended. Half of it is against the rule in any mode.
func (l *lists) keeps(t *txn, c *Check) bool {
	kept, lost := 0, 0
	for _, own := range t.appends {
		for _, v := range own {
			if l.kept[v] {
				kept++
			} else {
				lost++
			}
		}
	}
	if kept > 0 && lost > 0 {
		c.tell("of a transaction only a part is left: %s", t)
	}
	return lost == 0
}

// whole says whether everything that a transaction has read is left.
func (l *lists) whole(t *txn) bool {
	for _, found := range t.reads {
		if slices.ContainsFunc(found, func(v int64) bool { return !l.kept[v] }) {
			return false
		}
	}
	return true
}

// behind is how long before a read something had been acknowledged that it lacks and that is left.
func (l *lists) behind(t *txn) (longest history.Time) {
	for key, found := range t.reads {
		if !prefix(found, l.left[key]) {
			continue
		}
		for _, v := range l.left[key][len(found):] {
			if author := l.authors[v]; author != nil && author.done() && author.Ended < t.Sent {
				longest = max(longest, t.Sent-author.Ended)
			}
		}
	}
	return longest
}

// ordered asks whether transactions that share the history of each list have an order. What is left of the lists may be known; otherwise the longest that was
// read tells most of it. Of those whose answer got lost it takes the ones whose appends were seen.
func ordered(where string, all []*txn, left map[int][]int64, c *Check) {
	part, longest := partakers(all, left)
	g := dependencies(where, part, longest, c)
	inOrder(g, part)
	for _, found := range g.cycles() {
		found = shorten(found, part)
		var text []string
		for i, n := range found.nodes {
			e := found.edges[i]
			what := e.kind.String()
			if e.kind != inTime {
				what += fmt.Sprintf(" (list %d)", e.key)
			}
			text = append(text, fmt.Sprintf("%s %s", part[n], what))
		}
		c.tell("%s: %s: %s the first", where, found.name, strings.Join(text, " "))
	}
}

// partakers are the transactions that happened, in the order in which they were sent: the acknowledged ones, and of the others those whose appends are to be
// seen in the lists, which are what is left, or the longest that was read of each.
func partakers(all []*txn, left map[int][]int64) (part []*txn, longest map[int][]int64) {
	longest = left
	part = slices.DeleteFunc(slices.Clone(all), func(t *txn) bool { return !t.done() })
	if left == nil {
		longest = longestOf(part)
	}
	seen := map[int64]bool{}
	for _, list := range longest {
		for _, v := range list {
			seen[v] = true
		}
	}
	for _, t := range all {
		if !t.done() && slices.ContainsFunc(t.Steps, func(s history.Step) bool { return seen[s.Append] }) {
			part = append(part, t)
		}
	}
	slices.SortFunc(part, func(a, b *txn) int { return cmp.Compare(a.Sent, b.Sent) })
	return part, longest
}

// dependencies says which of them came before which by what the lists show: appends after appends, reads after what they have read, and before what
// they have not.
func dependencies(where string, part []*txn, longest map[int][]int64, c *Check) graph {
	g := make(graph, len(part))
	position := map[int64]int{} // of a value in its list
	writer := map[int64]int{}
	for i, t := range part {
		for _, own := range t.appends {
			for _, v := range own {
				writer[v] = i
			}
		}
	}
	chains := map[int][]int{} // of each list, in its order: who appended, if he is one of these, or -1
	for key, list := range longest {
		last := -1
		for at, v := range list {
			position[v] = at
			i, ok := writer[v]
			if !ok {
				i = -1
			}
			chains[key] = append(chains[key], i)
			if i >= 0 {
				if last >= 0 {
					g.add(last, i, ww, key)
				}
				last = i
			}
		}
	}
	unseen := map[int][]int{} // acknowledged appends to each list that come after all that was read
	for i, t := range part {
		for key, own := range t.appends {
			if _, ok := position[own[0]]; ok {
				continue
			}
			unseen[key] = append(unseen[key], i)
			if last := lastBefore(chains[key], len(chains[key])); last >= 0 {
				g.add(last, i, ww, key)
			}
		}
	}
	for i, t := range part {
		for _, key := range sortedKeys(t.reads) {
			found := t.reads[key]
			if !prefix(found, longest[key]) {
				c.tell("%s: list %d was read as %v and as %v, of which neither begins with the other: %s", where, key, found, longest[key], t)
				continue
			}
			if w := lastBefore(chains[key], len(found)); w >= 0 {
				g.add(w, i, wr, key)
			}
			next := slices.IndexFunc(chains[key][len(found):], func(w int) bool { return w >= 0 })
			if next >= 0 {
				g.add(i, chains[key][len(found)+next], rw, key)
				continue
			}
			for _, w := range unseen[key] {
				g.add(i, w, rw, key)
			}
		}
	}
	return g
}

// shorten leaves out of a cycle what lies between two transactions of which one ended before the other was sent.
func shorten(c cycle, txns []*txn) cycle {
	if !slices.ContainsFunc(c.edges, func(e edge) bool { return e.kind == inTime }) {
		return c // it says more without
	}
	n := len(c.nodes)
	for span := n - 1; span > 1; span-- {
		for from := range n {
			a, b := c.nodes[from], c.nodes[(from+span)%n]
			if !txns[a].done() || txns[a].Ended >= txns[b].Sent {
				continue
			}
			short := cycle{name: c.name, nodes: []int{a}, edges: []edge{{b, inTime, 0}}}
			for at := from + span; at < from+n; at++ {
				short.nodes, short.edges = append(short.nodes, c.nodes[at%n]), append(short.edges, c.edges[at%n])
			}
			return short
		}
	}
	return c
}

// lastBefore is the last known author before a place in a list; -1: none.
func lastBefore(chain []int, at int) int {
	for at--; at >= 0; at-- {
		if chain[at] >= 0 {
			return chain[at]
		}
	}
	return -1
}

// longestOf is the longest that was read of each list.
func longestOf(txns []*txn) map[int][]int64 {
	longest := map[int][]int64{}
	for _, t := range txns {
		for key, found := range t.reads {
			if len(found) >= len(longest[key]) {
				longest[key] = found
			}
		}
	}
	return longest
}

// inOrder adds that what was acknowledged comes before what was sent later. The last to end before something is sent stand for those that ended before they were sent.
func inOrder(g graph, txns []*txn) {
	type moment struct {
		at    history.Time
		n     int
		begin bool
	}
	var moments []moment
	for i, t := range txns {
		moments = append(moments, moment{t.Sent, i, true})
		if t.done() {
			moments = append(moments, moment{t.Ended, i, false})
		}
	}
	slices.SortStableFunc(moments, func(a, b moment) int {
		if a.at != b.at {
			return cmp.Compare(a.at, b.at)
		}
		return map[bool]int{true: -1, false: 1}[a.begin] // what begins in the same moment is not later
	})
	var last []int
	for _, m := range moments {
		if m.begin {
			for _, n := range last {
				g.add(n, m.n, inTime, 0)
			}
			continue
		}
		last = slices.DeleteFunc(last, func(n int) bool { return txns[n].Ended < txns[m.n].Sent })
		last = append(last, m.n)
	}
}

// appendsKept asks whether what was acknowledged is left.
func appendsKept(h history.History, terms []term) Check {
	c := Check{Name: "appends kept", Asks: "what an acknowledged transaction appended is left, by the same rule as rows"}
	l := listsOf(h, &Check{})
	if l.left == nil {
		c.Facts = "not judged: nobody says what is left"
		return c
	}
	rule := lossesOf(h, terms)
	appended := 0
	for _, t := range l.txns {
		if !t.done() || !t.writes() {
			continue
		}
		appended++
		var lost []int64
		for _, key := range sortedKeys(t.appends) {
			lost = append(lost, slices.DeleteFunc(slices.Clone(t.appends[key]), func(v int64) bool { return l.kept[v] })...)
		}
		if len(lost) > 0 {
			rule.missing(&c, write{fmt.Sprintf("what was appended, %v, by %s", lost, t), t.Member, t.Timeline, t.LSN, t.Ended})
		}
	}
	c.Facts = fmt.Sprintf("of %d acknowledged transactions that appended %s", appended, rule)
	return c
}
