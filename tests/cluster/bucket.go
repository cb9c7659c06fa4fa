package main

import (
	"context"
	"fmt"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/spf13/cobra"
)

func (c *command) bucket() *cobra.Command {
	return &cobra.Command{
		Use:   "bucket NAME",
		Short: "Make a bucket on the cluster's MinIO, unless it is there, and print how pods reach it, as variables of a shell",
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			_, state, err := c.existing()
			if err != nil {
				return err
			}
			s3 := s3Of(state)
			if err := makeBucket(command.Context(), s3, args[0]); err != nil {
				return fmt.Errorf("make the bucket %q: %w", args[0], err)
			}
			fmt.Printf("export S3_ENDPOINT=http://%s S3_BUCKET=%s S3_ACCESS_KEY=%s S3_SECRET_KEY=%s\n", s3.InCluster, args[0], s3.AccessKey, s3.SecretKey)
			return nil
		},
	}
}

func makeBucket(ctx context.Context, s3 s3Status, name string) error {
	client, err := minio.New(s3.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(s3.AccessKey, s3.SecretKey, "")})
	if err != nil {
		return err
	}
	there, err := client.BucketExists(ctx, name)
	if err != nil || there {
		return err
	}
	return client.MakeBucket(ctx, name, minio.MakeBucketOptions{})
}
