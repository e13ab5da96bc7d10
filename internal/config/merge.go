package config

// Merge lays patch over base and says whether anything changed. One rule serves file over file,
// environment over file and PATCH /config (config.md 1.3): null removes, mappings merge, lists and
// other kinds replace, and a scalar whose text form is equal keeps its old type.
func Merge(base, patch *Map) (changed bool) {
	if patch == nil {
		return false
	}
	for _, p := range patch.pairs {
		old, ok := base.Lookup(p.key)
		switch {
		case p.value == nil:
			if ok {
				base.Delete(p.key)
				changed = true
			}
		case !ok:
			base.set(p.key, clone(p.value), p.origin)
			changed = true
		default:
			oldMap, ok1 := old.(*Map)
			newMap, ok2 := p.value.(*Map)
			switch {
			case ok1 && ok2:
				changed = Merge(oldMap, newMap) || changed
			case ok1 || ok2 || Text(old) != Text(p.value):
				base.set(p.key, clone(p.value), p.origin)
				changed = true
			}
		}
	}
	return changed
}

// Equal compares two values by the text forms of their leaves: 1 and "1" are equal, an absent key
// differs from a null, an empty mapping differs from null (config.md 1.3).
func Equal(a, b any) bool {
	am, ok1 := a.(*Map)
	bm, ok2 := b.(*Map)
	if !ok1 || !ok2 {
		return ok1 == ok2 && (a == nil) == (b == nil) && Text(a) == Text(b)
	}
	if am.Len() != bm.Len() {
		return false
	}
	if am == nil {
		return true
	}
	for _, p := range am.pairs {
		other, ok := bm.Lookup(p.key)
		if !ok || !Equal(p.value, other) {
			return false
		}
	}
	return true
}
