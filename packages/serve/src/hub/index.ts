export { cachedModel, type DownloadEvent, type DownloadOptions, downloadModel } from "./download.js";
