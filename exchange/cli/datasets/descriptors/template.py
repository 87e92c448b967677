"""A descriptor to start from, as `exchange dataset template` prints it."""

TEMPLATE = """\
# A dataset that this department shares. Publish it with: exchange dataset publish FILE

# Its code, unique within the department: small letters, digits and hyphens, joined by dots.
code = "household.registration"
title = "户籍登记"
title_en = "Household registration"
abstract = "何人登记在何处，每晚更新。"
abstract_en = "Who is registered at which address. Updated every night."
keywords = ["户籍", "住址", "household", "residence"]

# The owner's own number of this version; a new one supersedes the one before.
version = "1.0"
# Codes: what it is about, and what one record is about.
theme = "population"
subject_type = "person"
# nation, province, city or county.
level = "city"
# An office, never a person.
contact = "Population office, telephone 12345"
update_frequency = "DAILY"
retention = "As long as the household is registered."
quality = "Checked against the civil register every month."

# Others that go with it: DEPARTMENT/CODE of published datasets.
related = []

# With true, only the departments or systems of visible_to see that it exists.
restricted = false
visible_to = []

# The system of this department that answers: the last part of its name.
system = "registry"

# The field that a LOOKUP goes by: the identity of the subject.
key = "id_number"

# What may be asked: LOOKUP (rows of named subjects), QUERY (rows that a filter selects).
operations = ["LOOKUP", "QUERY"]

# The fields that a QUERY may filter by.
filterable = ["district", "registered_on"]

# How it is shared: "unconditional"; "conditional", which lists its conditions and the only purposes; or "not shared",
# with a reason. The law that this rests on goes with it.
[sharing]
class = "unconditional"
legal_basis = "Decree 809, article 14"

# One block for each field. Types: text, integer, decimal, date, boolean. Sensitivity: 1 (public) to 4; without one it
# counts as 4. element: the code of the standard data element, if there is one. codes: the only values.
[[fields]]
name = "id_number"
label = "公民身份号码"
label_en = "Identity number"
type = "text"
sensitivity = 4

[[fields]]
name = "full_name"
label = "姓名"
label_en = "Name"
type = "text"
sensitivity = 3

[[fields]]
name = "sex"
label = "性别"
label_en = "Sex"
type = "text"
sensitivity = 2
codes = [{ code = "1", label = "男", label_en = "male" }, { code = "2", label = "女", label_en = "female" }]

[[fields]]
name = "district"
label = "所在区"
label_en = "District"
type = "text"
sensitivity = 2

[[fields]]
name = "registered_on"
label = "登记日期"
label_en = "Registered on"
type = "date"
sensitivity = 2

# Where another department's dataset already holds some of these fields (`exchange dataset similar FILE` finds them),
# say which, who the source is, and why this one is needed all the same:
#
# [[overlaps]]
# dataset = "civil-affairs/marriages"
# fields = ["full_name"]
# source = "civil-affairs"
# justification = "Names change here first: the household register is where a change is filed."
"""
