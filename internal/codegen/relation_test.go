package codegen_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/plain"
	"github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/relation"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
)

func TestRelations(t *testing.T) {
	full := &relation.Employee{
		Id: "e1", CompanyId: "c1", Boss: proto.String("e0"), Name: "Ann", Nickname: proto.String(""),
		Address: &relation.Address{City: "Bonn"}, Desks: []string{"a", "b"}, Contact: &relation.Employee_Phone{Phone: "5"}, Salary: 9,
	}
	for _, c := range []struct {
		definition    concern.Definition
		index         int
		field, parent string
		child         proto.Message
		key           string
		seen          proto.Message
	}{
		{relation.NewEmployee(nil), 0, "company_id", relation.CompanyConcern, full, "c1", &relation.Employee{
			Id: "e1", Name: "Ann", Nickname: proto.String(""), Address: &relation.Address{City: "Bonn"}, Desks: []string{"a", "b"},
			Contact: &relation.Employee_Phone{Phone: "5"},
		}},
		{relation.NewEmployee(nil), 0, "company_id", relation.CompanyConcern, &relation.Employee{
			Id: "e2", Contact: &relation.Employee_Mail{Mail: "m"}, Salary: 9,
		}, "", &relation.Employee{Id: "e2"}},
		{relation.NewEmployee(nil), 1, "boss", relation.EmployeeConcern, full, "e0", &relation.Employee{Id: "e1"}},
		{relation.NewEmployee(nil), 1, "boss", relation.EmployeeConcern, &relation.Employee{Id: "e0"}, "", &relation.Employee{Id: "e0"}},
		{relation.NewSubsidiary(nil), 0, "id", relation.CompanyConcern, &relation.Subsidiary{Id: "s"}, "s", &relation.Subsidiary{Id: "s"}},
	} {
		r := c.definition.Relations[c.index]
		if r.Field != c.field || r.Parent != c.parent {
			t.Errorf("%s.%s refers to %s, want field %s and parent %s", c.definition.Name, r.Field, r.Parent, c.field, c.parent)
		}
		if key := r.ParentKey(c.child); key != c.key {
			t.Errorf("%s: the parent of %v is %q, want %q", c.field, c.child, key, c.key)
		}
		if seen := r.Copy(c.child); !proto.Equal(seen, c.seen) {
			t.Errorf("%s: the parent sees %v, want %v", c.field, seen, c.seen)
		}
	}
	if !relation.CompanyMapping().Related || !relation.EmployeeMapping().Related || relation.SubsidiaryMapping().Related {
		t.Error("the tables that have a column for children are not those of parents")
	}
	// The helpers that the compiler checks; without children there are none.
	employees, err := relation.CompanyEmployees(concern.Context{})
	subsidiaries, err2 := relation.CompanySubsidiaries(concern.Context{})
	below, err3 := relation.EmployeeEmployees(concern.Context{})
	if err := errors.Join(err, err2, err3); err != nil || len(employees) != 0 || len(subsidiaries) != 0 || len(below) != 0 {
		t.Errorf("%v, %v, %v, %v", employees, subsidiaries, below, err)
	}
}

func TestUnique(t *testing.T) {
	d := relation.NewCompany(nil)
	if len(d.Unique) != 2 || len(plain.NewWallet(&wallets{}).Unique) != 0 {
		t.Fatal("not every unique field is known, or one that is not")
	}
	for i, want := range []struct{ field, index, value, none string }{{"name", "firm_name", "Acme", ""}, {"tax_number", "firm_tax_number", "7", ""}} {
		u := d.Unique[i]
		if u.Field != want.field || u.Index != want.index {
			t.Errorf("field %s has index %s, want %v", u.Field, u.Index, want)
		}
		if got := u.Value(&relation.Company{Name: "Acme", TaxNumber: proto.String("7")}); got != want.value {
			t.Errorf("%s is %q", u.Field, got)
		}
		if got := u.Value(&relation.Company{}); got != want.none {
			t.Errorf("%s of nothing is %q", u.Field, got)
		}
	}
}

func TestConfigConcern(t *testing.T) {
	refused := errors.New("too much")
	d := relation.NewWagesConfig(func(w *relation.Wages) error {
		if w.GetMost() > 10 {
			return refused
		}
		return nil
	})
	w := d.New().(*relation.Wages)
	w.Grade, w.Most = "a", 10
	if d.Name != "wages" || d.KeyOf(w) != "a" || d.Validate(w) != nil {
		t.Errorf("%s %s %v", d.Name, d.KeyOf(w), d.Validate(w))
	}
	w.Most = 11
	if err := d.Validate(w); !errors.Is(err, refused) {
		t.Errorf("not refused: %v", err)
	}
	if relation.NewWagesConfig(nil).Validate != nil {
		t.Error("a rule that nobody gave")
	}
	if _, ok := relation.WagesOf(concern.Context{}, "a"); ok {
		t.Error("an instance that nobody published")
	}
}
