E
idauthor"action*subject2reason:outcomeB
concerntarget