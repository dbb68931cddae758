package handler

import (
	"fmt"
	"reflect"
)

// Optional returns h as V, an interface of one method that a handler may leave
// out. It panics when h has a method of that name which does not count, because
// its signature is another one or because it belongs to the pointer and h is
// not a pointer: such a rule would be passed over in silence.
func Optional[V any](h any) (v V, ok bool) {
	if h == nil {
		return v, false
	}
	if v, ok = h.(V); ok {
		return v, true
	}
	want, have := reflect.TypeFor[V](), reflect.TypeOf(h)
	name := want.Method(0).Name
	if m, found := have.MethodByName(name); found {
		panic(fmt.Sprintf("handler %v: method %s is %v, where %v is needed (without the receiver)",
			have, name, m.Type, want.Method(0).Type))
	}
	if _, found := reflect.PointerTo(have).MethodByName(name); found {
		panic(fmt.Sprintf("handler %v: method %s has a pointer receiver; pass a *%v", have, name, have))
	}
	return v, false
}
