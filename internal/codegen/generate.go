package codegen

import (
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// Generate adds the generated files to the plugin's response. The error joins
// every fault that was found in the files to generate.
func Generate(plugin *protogen.Plugin) error {
	plugin.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL |
		pluginpb.CodeGeneratorResponse_FEATURE_SUPPORTS_EDITIONS)
	plugin.SupportedEditionsMinimum = descriptorpb.Edition_EDITION_PROTO3
	plugin.SupportedEditionsMaximum = descriptorpb.Edition_EDITION_2023

	files, err := collect(plugin.Files)
	if err != nil {
		return err
	}
	for _, f := range files {
		prefix := f.proto.GeneratedFilenamePrefix
		writeGo(plugin.NewGeneratedFile(prefix+".rkcy.go", f.proto.GoImportPath), f)
		writeSQL(plugin.NewGeneratedFile(prefix+".rkcy.sql", f.proto.GoImportPath), f)
	}
	return nil
}
