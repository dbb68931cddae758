package chaos

// scenarios are in the order of docs/faults.md.
func scenarios() []scenario {
	return []scenario{
		{"kill", true, killRoles},
		{"failpoints", true, killAtPoints},
		{"zombie", true, zombie},
		{"late-end-txn", true, lateEndTxn},
		{"transaction-requests", false, transactionRequests},
	}
}
