package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"
)

// output is the flag -o of a command.
type output struct {
	format string
	may    []string
}

// The formats. The empty one is for a person.
const (
	wide     = "wide"
	asJSON   = "json"
	asYAML   = "yaml"
	justName = "name"
)

func (o *output) addTo(command *cobra.Command, may ...string) {
	o.may = may
	command.Flags().StringVarP(&o.format, "output", "o", "", "the format: "+strings.Join(may, ", ")+"; without it one for a person")
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(may, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

func (o *output) check() error {
	if o.format == "" || slices.Contains(o.may, o.format) {
		return nil
	}
	return fmt.Errorf("--output is %q; it may be %s", o.format, strings.Join(o.may, ", "))
}

// isForAPerson tells whether a text is to be made for a person.
func (o *output) isForAPerson() bool { return o.format == "" || o.format == wide }

// object prints an object of the API in one of the other formats.
func (o *output) object(c *cli, object runtime.Object) error {
	var printer printers.ResourcePrinter
	switch o.format {
	case asJSON:
		printer = &printers.JSONPrinter{}
	case asYAML:
		printer = &printers.YAMLPrinter{}
	default:
		printer = &printers.NamePrinter{}
	}
	printer, err := printers.NewTypeSetter(newScheme()).WrapToPrinter(&printers.OmitManagedFieldsPrinter{Delegate: printer}, nil)
	if err != nil {
		return err
	}
	return printer.PrintObj(object, c.Out)
}

// value prints what is no object of the API.
func (o *output) value(c *cli, value any) error {
	text, err := yaml.Marshal(value)
	if err == nil && o.format == asJSON {
		if text, err = yaml.YAMLToJSON(text); err == nil {
			text = append(text, '\n')
		}
	}
	if err != nil {
		return err
	}
	_, err = c.Out.Write(text)
	return err
}
