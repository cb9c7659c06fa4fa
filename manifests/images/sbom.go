package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

const unknown = "NOASSERTION"

// debianPackage is one of those in packages.json that `bin/localcluster build --for-images` writes beside what it takes from them.
type debianPackage struct {
	Name, Version, Architecture, Source string
	Licences, Files                     []string
}

// bill is a list in the making of what is in an image: https://spdx.github.io/spdx-spec/v2.3.
type bill struct {
	document *spdx.Document
	image    common.ElementID
}

// newBill begins the list of the image of an architecture, which has that digest.
func (r release) newBill(i image, architecture string, digest v1.Hash) *bill {
	name := i.name + "-" + architecture
	b := &bill{image: "image", document: &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: fmt.Sprintf("%s/spdx/%s/%s", source, name, digest.Hex),
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "manifests/images"}}, Created: r.created.UTC().Format("2006-01-02T15:04:05Z"),
		},
	}}
	b.add("DOCUMENT", "DESCRIBES", &spdx.Package{
		PackageName: i.name, PackageSPDXIdentifier: b.image, PackageVersion: r.version, PrimaryPackagePurpose: "CONTAINER",
		PackageLicenseComments: "see the packages that it contains",
		PackageChecksums:       []common.Checksum{{Algorithm: common.SHA256, Value: digest.Hex}},
	}, fmt.Sprintf("pkg:oci/%s@sha256%%3A%s?arch=%s", i.name, digest.Hex, architecture))
	return b
}

// add puts a package on the list, unless it is there, and says what it is to another one.
func (b *bill) add(to common.ElementID, how string, p *spdx.Package, url string) {
	here := slices.ContainsFunc(b.document.Packages, func(other *spdx.Package) bool { return other.PackageSPDXIdentifier == p.PackageSPDXIdentifier })
	if !here {
		p.PackageDownloadLocation, p.PackageLicenseConcluded, p.PackageCopyrightText = unknown, unknown, unknown
		if p.PackageLicenseDeclared == "" {
			p.PackageLicenseDeclared = unknown
		}
		p.PackageExternalReferences = []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: url,
		}}
		b.document.Packages = append(b.document.Packages, p)
	}
	b.document.Relationships = append(b.document.Relationships, &spdx.Relationship{
		RefA: common.DocElementID{ElementRefID: to}, RefB: common.DocElementID{ElementRefID: p.PackageSPDXIdentifier}, Relationship: how,
	})
}

// addProgram reads from a Go program itself which modules it was made of, and which Go.
func (b *bill) addProgram(path, version string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read what %s was built from: %w", filepath.Base(path), err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	program := &spdx.Package{
		PackageName: info.Path, PackageSPDXIdentifier: identifier("program", filepath.Base(path)), PackageVersion: version,
		PackageFileName: filepath.Base(path), PackageLicenseDeclared: "Apache-2.0", PrimaryPackagePurpose: "APPLICATION",
		PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: hex.EncodeToString(sum[:])}},
	}
	b.add(b.image, "CONTAINS", program, moduleURL(info.Main.Path, version)+"#"+strings.TrimPrefix(strings.TrimPrefix(info.Path, info.Main.Path), "/"))
	modules := append([]*debug.Module{{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}}, info.Deps...)
	for _, module := range modules {
		if module.Replace != nil {
			module = module.Replace
		}
		p := &spdx.Package{
			PackageName: module.Path, PackageSPDXIdentifier: identifier("go", module.Path, module.Version), PackageVersion: module.Version,
			PrimaryPackagePurpose: "LIBRARY",
		}
		if module.Sum != "" {
			p.PackageSourceInfo = "go.sum: " + module.Sum
		}
		b.add(program.PackageSPDXIdentifier, "STATIC_LINK", p, moduleURL(module.Path, module.Version))
	}
	return nil
}

// addDebian lists the packages of Debian that some of the files are from.
func (b *bill) addDebian(list, suite string, files []string) error {
	data, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	var packages []debianPackage
	if err := json.Unmarshal(data, &packages); err != nil {
		return fmt.Errorf("read %s: %w", list, err)
	}
	for _, p := range packages {
		if !slices.ContainsFunc(p.Files, func(name string) bool { return slices.Contains(files, name) }) {
			continue
		}
		b.add(b.image, "CONTAINS", &spdx.Package{
			PackageName: p.Name, PackageSPDXIdentifier: identifier("deb", p.Name, p.Version), PackageVersion: p.Version,
			PackageSupplier:        &common.Supplier{SupplierType: "Organization", Supplier: "Debian"},
			PackageSourceInfo:      "built from Debian's source package " + p.Source,
			PackageLicenseDeclared: licence(p.Licences), PackageLicenseComments: "debian/copyright names: " + strings.Join(p.Licences, ", "),
			PackageComment: "of it are in the image: " + strings.Join(p.Files, ", "),
		}, fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=%s", escaped(p.Name), escaped(p.Version), p.Architecture, suite))
	}
	return nil
}

func (b *bill) write(target string) error {
	file, err := os.Create(target)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := spdxjson.Write(b.document, file, spdxjson.Indent("  "), spdxjson.EscapeHTML(false)); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	return file.Close()
}

// moduleURL names a Go module as https://github.com/package-url/purl-spec wants it: in small letters.
func moduleURL(path, version string) string {
	return "pkg:golang/" + strings.ToLower(path) + "@" + escaped(version)
}

// escaped is for versions as v29.7.2+incompatible, and names as libstdc++6.
func escaped(text string) string { return strings.ReplaceAll(text, "+", "%2B") }

var notInIdentifiers = regexp.MustCompile(`[^a-zA-Z0-9.-]+`)

func identifier(words ...string) common.ElementID {
	return common.ElementID(notInIdentifiers.ReplaceAllString(strings.Join(words, "-"), "-"))
}

// spdxNames are what SPDX calls licences to which Debian gives other names.
var spdxNames = map[string]string{
	"Apache-2.0": "Apache-2.0", "BSD-2-clause": "BSD-2-Clause", "BSD-3-clause": "BSD-3-Clause", "Expat": "MIT", "ISC": "ISC", "MPL-2.0": "MPL-2.0",
	"GPL-2": "GPL-2.0-only", "GPL-2+": "GPL-2.0-or-later", "GPL-3": "GPL-3.0-only", "GPL-3+": "GPL-3.0-or-later",
	"LGPL-2": "LGPL-2.0-only", "LGPL-2+": "LGPL-2.0-or-later", "LGPL-2.1": "LGPL-2.1-only", "LGPL-2.1+": "LGPL-2.1-or-later",
	"LGPL-3": "LGPL-3.0-only", "LGPL-3+": "LGPL-3.0-or-later", "zlib": "Zlib",
}

// licence makes one expression of the names in debian/copyright, which hold for parts of a package each; NOASSERTION where SPDX has no name for one.
func licence(names []string) string {
	var all []string
	for _, name := range names {
		known, found := spdxNames[name]
		if !found {
			return unknown
		}
		all = append(all, known)
	}
	if len(all) == 0 {
		return unknown
	}
	return strings.Join(all, " AND ")
}
