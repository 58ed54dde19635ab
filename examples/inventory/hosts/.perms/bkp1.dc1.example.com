ops:
  data: RW
  perms: RW
provision:
  data: RO
