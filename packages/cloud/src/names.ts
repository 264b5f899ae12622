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

/** The first and last address of an IPv4 range, as numbers. */
export function addressesOf(range: string): { readonly first: number; readonly last: number } {
  const [address = "", prefix] = range.split("/");
  const size = 2 ** (32 - Number(prefix));
  const number = address.split(".").reduce((sum, part) => 256 * sum + Number(part), 0);
  const first = number - (number % size);
  return { first, last: first + size - 1 };
}

const privateRanges = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

/** An IPv4 range of RFC 1918. */
export const PrivateCidr = Cidr.refine(
  (range) => {
    const { first, last } = addressesOf(range);
    return privateRanges.map(addressesOf).some((whole) => whole.first <= first && last <= whole.last);
  },
  `expected a range within ${privateRanges.join(", ")}`,
);

/** An amount of money in one currency. */
export const Money = z.strictObject({
  amount: z.number().positive(),
  currency: z.string().regex(/^[A-Z]{3}$/, "expected a currency code such as USD"),
});
