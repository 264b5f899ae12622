export { Cluster } from "./cluster.js";
export { CloudError, type CloudErrorCode } from "./errors.js";
export type { Change, Finding, Plan, PlanEvent, Price, QuotaCheck, ResourceKind, ResourceReference } from "./plan.js";
export { parseSpecification, Specification } from "./specification.js";
export { Deployment, Job } from "./workload.js";
