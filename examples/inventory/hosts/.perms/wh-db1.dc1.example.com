dba:
  data: RW
provision:
  data: RO
