import { z } from "zod";

/**
 * A name that IBM Cloud VPC accepts for every kind of resource: lower-case letters, digits and hyphens, a letter first, a letter or digit last.
 * 40 characters here and not 63, because resources are called after it ("name-worker-127").
 */
export const ResourceName = z
  .string()
  .max(40, "at most 40 characters")
  .regex(/^[a-z]([a-z0-9-]*[a-z0-9])?$/, "expected lower-case letters, digits and hyphens, starting with a letter")
  .refine((name) => !name.startsWith("ibm-"), 'names that start with "ibm-" are reserved');

/** Regions of IBM Cloud VPC. */
export const Region = z.enum([
  "au-syd",
  "br-sao",
  "ca-mon",
  "ca-tor",
  "eu-de",
  "eu-es",
  "eu-gb",
  "in-che",
  "in-mum",
  "jp-osa",
  "jp-tok",
  "us-east",
  "us-south",
]);

/** A folder in object storage: s3://bucket/prefix. */
export const StorageUri = z
  .string()
  .regex(/^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/\S*)?$/, "expected s3://bucket or s3://bucket/prefix");

/** An IBM Cloud resource name (CRN). */
export const Crn = z.string().regex(/^crn:v1:\S+$/, "expected a CRN, crn:v1:…");

/** An IPv4 range. */
export const Cidr = z.cidrv4("expected an IPv4 range such as 10.0.0.0/16");

/** An amount of money in one currency. */
export const Money = z.strictObject({
  amount: z.number().positive(),
  currency: z.string().regex(/^[A-Z]{3}$/, "expected a currency code such as USD"),
});
