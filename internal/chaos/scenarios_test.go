package chaos

// scenarios are in the order of docs/faults.md.
func scenarios() []scenario {
	return []scenario{
		{"kill", true, killRoles},
		{"failpoints", true, killAtPoints},
		{"zombie", false, zombie},
		{"late-end-txn", true, lateEndTxn},
		{"transaction-requests", false, transactionRequests},
		{"brokers", false, brokers},
		{"networks", false, networks},
		{"database", false, database},
		{"disk-full", false, diskFull},
		{"memory", false, memory},
		{"storm", false, storm},
		{"poison", true, poison},
		{"blocked", false, blocked},
		{"duplicates", true, duplicates},
		{"overload", true, overload},
		{"clocks", false, clocks},
	}
}
