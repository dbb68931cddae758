
valueowner