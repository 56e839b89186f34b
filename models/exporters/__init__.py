"""Descriptors in the forms of others: TEC's own files, a data contract (ODCS), a bill of materials (CycloneDX)."""
